#!/usr/bin/env bash
# test-programs.sh PYTHON: runs the programs of tests/programs in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv-with-package.sh programs "$1" tests/programs/requirements.txt)
exec timeout --kill-after=5 900 "$environment/bin/python" tests/programs/run.py
