#!/usr/bin/env bash
# python-env.sh PYTHON: a virtual environment for this interpreter, in target/venv/VERSION, with the package built into it
# and all that its tests need. Prints the path of the environment's python.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$(scripts/venv.sh "" "$1" tests/requirements.txt)
log=$(mktemp)
VIRTUAL_ENV=$venv CARGO_TARGET_DIR=target/python "$venv/bin/maturin" develop --release --locked >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
rm "$log"
echo "$venv/bin/python"
