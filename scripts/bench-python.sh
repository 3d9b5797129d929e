#!/usr/bin/env bash
# bench-python.sh PYTHON [OPTION...]: the benchmarks in Python, with the rivals in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv-with-package.sh bench "$1" benches/python/requirements.txt)
shift
# As pip leaves a package: an import must not compile it each time, where interpreters are told to write no bytecode.
"$environment/bin/python" -m compileall -q python/procpool
exec "$environment/bin/python" benches/python "$@"
