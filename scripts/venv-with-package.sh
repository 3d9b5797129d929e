#!/usr/bin/env bash
# venv-with-package.sh NAME PYTHON REQUIREMENTS: as venv.sh, and the package is in it as it was built for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/python-env.sh "$2" >/dev/null
environment=$(scripts/venv.sh "$@")
echo "$PWD/python" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/procpool.pth"
echo "$environment"
