#!/usr/bin/env bash
# bench-scaling.sh PYTHON [OPTION...]: measures the curves, and draws them.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/bench-env.sh "$1")
shift
cargo run --locked --release -p procpool-benches -- --curves "$@"
"$environment/bin/python" benches/report/plot.py target/bench/curves
