#!/usr/bin/env bash
# bench-scaling.sh PYTHON [OPTION...]: measures the curves, and draws them.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv.sh bench "$1" benches/python/requirements.txt)
shift
cargo run --locked --release -p procpool-benches -- --curves "$@"
"$environment/bin/python" benches/report/plot.py target/bench/curves
