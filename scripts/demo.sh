#!/usr/bin/env bash
# Shows what a pool does, in Rust and in Python: it stops at once, it finishes everything, and it outlives tasks that crash.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${CARGO_TARGET_DIR:-target}/release/examples
results=$(mktemp -d)
trap 'rm -r "$results"' EXIT
TIMEFORMAT="(%R seconds)"
exec 3>&1

# show_command TITLE TEXT COMMAND...: what the program prints may go to a file, the title does not.
show_command() {
    printf '\n=== %s\n$ %s\n' "$1" "$2" >&3
    time "${@:3}"
}

# show TITLE EXAMPLE [ARGUMENT...]: one in Rust.
show() {
    show_command "$1" "${*:2}" "$programs/$2" "${@:3}"
}

# show_python TITLE ARGUMENT...: one in Python.
show_python() {
    show_command "$1" "python ${*:2}" "$python" "${@:2}"
}

echo "Building the examples and the Python package (once)."
python=$(scripts/python-env.sh "${PYTHON:-python3}")
cargo build --quiet --locked --release -p procpool \
    --example terminate_early --example finish_all --example digest

show "A pool with work to do is told to stop" terminate_early
show "A pool that is closed finishes all it has accepted" finish_all

show "A digest of every file here, computed by worker processes" digest . >"$results/pool"
head -n 3 "$results/pool"
show "The same, computed by one process alone" digest --serial . >"$results/serial"
cmp "$results/pool" "$results/serial"
echo "All $(wc -l <"$results/serial") lines are the same."

show "While one task in a hundred crashes its worker with a real segmentation fault" digest --crash . >"$results/crash"
echo "$(comm -12 <(sort "$results/crash") <(sort "$results/serial") | wc -l) of these lines are there all the same."

show_python "In Python: a pool with work to do is told to stop" examples/python/terminate_early.py
show_python "In Python: a pool that is closed finishes all it has accepted" examples/python/finish_all.py
show_python "A program that says \`from multiprocessing import Pool\`, unchanged, with procpool's" \
    -m procpool examples/python/unchanged.py
show_python "One task crashes its worker with a real segmentation fault" examples/python/crash.py
