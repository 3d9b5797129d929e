#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: lets libFuzzer make up inputs for each target (all, where none is named) for so long, one
# after the other. New inputs stay in target/fuzz/corpus; one that a target fails on stays in target/fuzz/found.
#
# The compiler that builds procpool builds this too: its options for coverage are stable, unlike those for sanitizers.
# Where cargo-fuzz and a nightly toolchain are, `cargo +nightly fuzz run TARGET --features libfuzzer` adds those.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=$1
shift
if [ $# -eq 0 ]; then
    # The names in Cargo.toml are those of the programs, and of the folders in corpus/.
    mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,/^name/s/^name = "\(.*\)"/\1/p' Cargo.toml)
else
    targets=("$@")
fi

if ! command -v c++ >/dev/null; then
    echo "libFuzzer is written in C++, and there is no c++ here (Debian: apt install g++): nothing was fuzzed"
    exit 0
fi

host=$(rustc -vV | sed -n 's/^host: //p')
place=$PWD/../target/fuzz
coverage="-Cpasses=sancov-module -Ccodegen-units=1"
for option in -sanitizer-coverage-level=4 -sanitizer-coverage-inline-8bit-counters -sanitizer-coverage-pc-table \
    -sanitizer-coverage-trace-compares -simplifycfg-branch-fold-threshold=0; do
    coverage+=" -Cllvm-args=$option"
done
# With --target, so that what runs while it is built is built without all that.
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$place \
    cargo build --quiet --locked --release --target "$host" --features libfuzzer --bins

for target in "${targets[@]}"; do
    echo "==> fuzz $target for $seconds s"
    mkdir -p "$place/corpus/$target" "$place/found/$target"
    # A hang is an error as well; so is memory without end, also where a target counts none.
    "$place/$host/release/$target" "$place/corpus/$target" "corpus/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=2048 -len_control=10 -use_value_profile=1 \
        -artifact_prefix="$place/found/$target/" -print_final_stats=1 ${FUZZ_OPTIONS:-} 2>"$place/$target.log" || {
        tail -40 "$place/$target.log"
        exit 1
    }
    grep -E '^#[0-9]+\s+(INITED|DONE)' "$place/$target.log" | sed 's/^/  /'
done
