#!/usr/bin/env bash
# bench-python.sh PYTHON [OPTION...]: the benchmarks in Python, with the rivals in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
scripts/python-env.sh "$python" >/dev/null
environment=$PWD/target/venv/bench
if ! cmp --silent benches/python/requirements.txt "$environment/requirements.txt"; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r benches/python/requirements.txt
    cp benches/python/requirements.txt "$environment"
fi
echo "$PWD/python" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/procpool.pth"
# As pip leaves a package: an import must not compile it each time, where interpreters are told to write no bytecode.
"$environment/bin/python" -m compileall -q python/procpool
exec "$environment/bin/python" benches/python "$@"
