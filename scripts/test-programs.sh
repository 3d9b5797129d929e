#!/usr/bin/env bash
# test-programs.sh PYTHON: runs the programs of tests/programs in an environment of their own, beside the package's.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/python-env.sh "$1")
programs=$PWD/target/venv/programs
if ! cmp --silent tests/programs/requirements.txt "$programs/requirements.txt"; then
    "$1" -m venv --clear "$programs"
    "$programs/bin/pip" install --quiet --disable-pip-version-check -r tests/programs/requirements.txt
    cp tests/programs/requirements.txt "$programs"
fi
# The package as it was built for the tests.
packages=$("$programs/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$PWD/python" >"$packages/procpool.pth"
"$programs/bin/python" -c 'import procpool' || {
    echo "the package that $environment has cannot be used from $programs"
    exit 1
}
exec timeout --kill-after=5 900 "$programs/bin/python" tests/programs/run.py
