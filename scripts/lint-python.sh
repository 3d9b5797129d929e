#!/usr/bin/env bash
# lint-python.sh PYTHON: format, lints and types of everything that is written in Python.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$PWD/target/venv/lint
if ! cmp --silent scripts/requirements-lint.txt "$environment/requirements.txt"; then
    "$1" -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements-lint.txt
    cp scripts/requirements-lint.txt "$environment"
fi
written=(python examples/python benches/python tests)
"$environment/bin/ruff" format --quiet --check "${written[@]}"
"$environment/bin/ruff" check --quiet "${written[@]}"
"$environment/bin/mypy" python/procpool examples/python
PYTHONPATH=$PWD/python "$environment/bin/pyright" --pythonpath "$environment/bin/python" examples/python
