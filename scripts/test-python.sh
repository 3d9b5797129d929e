#!/usr/bin/env bash
# test-python.sh PYTHON...: builds the package for each of these interpreters, and runs its tests, two at a time: they wait
# more than they compute.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
trap 'rm -r "$logs"' EXIT
for python in "$@"; do
    scripts/python-env.sh "$python"
done >"$logs/environments"

# A hanging test is ended, and named, by pytest; the limit is for what no test can end.
run='log=$1/$(basename "${2%/bin/python}")
"$2" --version >"$log"
timeout --kill-after=5 1500 "$2" -m pytest -q tests/python >>"$log" 2>&1
status=$?
cat "$log"
exit $status'
xargs --max-procs=2 --max-args=1 bash -c "$run" bash "$logs" <"$logs/environments"
