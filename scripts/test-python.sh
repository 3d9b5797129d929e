#!/usr/bin/env bash
# test-python.sh PYTHON...: builds the package for each of these interpreters, and runs its tests. They wait more than they
# compute, so more of them run at once than there are processors.
set -uo pipefail
cd "$(dirname "$0")/.."

status=0
for python in "$@"; do
    environment=$(scripts/python-env.sh "$python") || exit 1
    "$environment" --version
    # A hanging test is ended, and named, by pytest; the limit is for what no test can end.
    timeout --kill-after=5 1500 "$environment" -m pytest -q -n "$(($(nproc) + 1))" --dist worksteal tests/python || status=1
done
exit "$status"
