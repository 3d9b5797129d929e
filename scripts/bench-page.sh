#!/usr/bin/env bash
# bench-page.sh PYTHON: takes over what was measured into docs/performance, and writes the figures into docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."

measured=target/bench
kept=docs/performance
mkdir -p "$kept/curves"
cp "$measured"/{results,goals,machine}.json "$kept"
cp "$measured"/curves/*.{csv,png} "$kept/curves"
environment=$(scripts/venv.sh bench "$1" benches/python/requirements.txt)
"$environment/bin/python" benches/report/page.py docs/performance.md "$kept"
