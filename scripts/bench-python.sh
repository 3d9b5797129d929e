#!/usr/bin/env bash
# bench-python.sh PYTHON [OPTION...]: the benchmarks in Python, with the rivals in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
scripts/python-env.sh "$python" >/dev/null
environment=$(scripts/bench-env.sh "$python")
echo "$PWD/python" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/procpool.pth"
# As pip leaves a package: an import must not compile it each time, where interpreters are told to write no bytecode.
"$environment/bin/python" -m compileall -q python/procpool
exec "$environment/bin/python" benches/python "$@"
