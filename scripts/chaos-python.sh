#!/usr/bin/env bash
# chaos-python.sh PYTHON SECONDS SEED: pools under load while their workers are killed at random, and for a fifth of the time
# programs that are killed themselves; see tests/chaos.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/python-env.sh "$1")
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -r "$TMPDIR"' EXIT
PYTHONPATH=tests/python "$python" tests/chaos $(($2 * 4 / 5)) $(($2 - $2 * 4 / 5)) "$3"
