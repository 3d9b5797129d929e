#!/usr/bin/env bash
# bench-check.sh PYTHON: measures briefly, and names the cases that became worse than docs/performance says. What seems worse
# is measured once more, and named only if it is so again.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
environment=$(scripts/venv.sh bench "$python" benches/python/requirements.txt)
now=$PWD/target/bench/check
rm -rf "$now"
check() {
    "$environment/bin/python" benches/report/check.py docs/performance "$now" "$@"
}

cargo run --locked --release -p procpool-benches -- --rounds 5 --out "$now"
scripts/bench-python.sh "$python" --rounds 3 --contender procpool --contender multiprocessing \
    --contender concurrent.futures --out "$now"

for case in $(check --names); do
    case $case in
        rust/*) cargo run --quiet --locked --release -p procpool-benches -- --rounds 15 --only "$case" --out "$now" ;;
        *) scripts/bench-python.sh "$python" --rounds 5 --case "$case" --contender procpool \
            --contender multiprocessing --contender concurrent.futures --out "$now" ;;
    esac
done
check
