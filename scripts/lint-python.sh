#!/usr/bin/env bash
# lint-python.sh PYTHON: format, lints and types of everything that is written in Python.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv.sh lint "$1" scripts/requirements-lint.txt)
written=(python examples/python benches/python tests)
"$environment/bin/ruff" format --quiet --check "${written[@]}"
"$environment/bin/ruff" check --quiet "${written[@]}"
"$environment/bin/mypy" python/procpool examples/python tests/typing
PYTHONPATH=$PWD/python "$environment/bin/pyright" --pythonpath "$environment/bin/python" examples/python tests/typing
