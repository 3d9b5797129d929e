#!/usr/bin/env bash
# bench-env.sh PYTHON: the environment of the benchmarks, with the rivals in Python and what draws. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$PWD/target/venv/bench
if ! cmp --silent benches/python/requirements.txt "$environment/requirements.txt"; then
    {
        "$1" -m venv --clear "$environment"
        "$environment/bin/pip" install --quiet --disable-pip-version-check -r benches/python/requirements.txt
        cp benches/python/requirements.txt "$environment"
    } >&2
fi
echo "$environment"
