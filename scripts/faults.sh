#!/usr/bin/env bash
# faults.sh PYTHON [OPTION...]: does to procpool and its peers what goes wrong with pools, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv-with-package.sh faults "$1" tests/faults/requirements.txt)
shift
exec "$environment/bin/python" tests/faults "$@"
