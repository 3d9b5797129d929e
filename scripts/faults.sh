#!/usr/bin/env bash
# faults.sh PYTHON [OPTION...]: does to procpool and its peers what goes wrong with pools, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
scripts/python-env.sh "$python" >/dev/null
environment=$PWD/target/venv/faults
if ! cmp --silent tests/faults/requirements.txt "$environment/requirements.txt"; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r tests/faults/requirements.txt
    cp tests/faults/requirements.txt "$environment"
fi
echo "$PWD/python" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/procpool.pth"
exec "$environment/bin/python" tests/faults "$@"
