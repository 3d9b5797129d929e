#!/usr/bin/env bash
# python-env.sh PYTHON: a virtual environment for this interpreter, in target/venv/VERSION, with the package built into it
# and all that its tests need. Prints the path of the environment's python.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=$PWD/target/venv/$version
{
    if ! cmp --silent tests/requirements.txt "$venv/requirements.txt"; then
        "$1" -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
        cp tests/requirements.txt "$venv"
    fi
    log=$(mktemp)
    VIRTUAL_ENV=$venv CARGO_TARGET_DIR=target/python "$venv/bin/maturin" develop --release --locked >"$log" 2>&1 || {
        cat "$log"
        exit 1
    }
    rm "$log"
} >&2
echo "$venv/bin/python"
