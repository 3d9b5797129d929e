#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: lets libFuzzer make up inputs for these targets (all, where none is named), for so long
# each, one after the other. What led somewhere new stays in target/fuzz/corpus; what did harm, in target/fuzz/found.
# fuzz.sh keep [TARGET...]: keeps of all that the few inputs which lead everywhere, in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

what=$1
shift
targets=("$@")
if [ $# -eq 0 ]; then
    # The names of the programs are those of the folders in corpus/.
    mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,/^name/s/^name = "\(.*\)"/\1/p' Cargo.toml)
fi
if ! command -v c++ >/dev/null; then
    echo "nothing was fuzzed: libFuzzer is written in C++, and there is no c++ (Debian has it in g++)"
    exit 0
fi

host=$(rustc -vV | sed -n 's/^host: //p')
place=$(realpath -m ../target/fuzz)
longest=2048

# The compiler's options for coverage are stable, those for sanitizers are not. With --target, so that what runs in the
# course of the build is built without them.
build() {
    local flags="-Cpasses=sancov-module -Ccodegen-units=1" option
    for option in -sanitizer-coverage-level=4 -sanitizer-coverage-inline-8bit-counters -sanitizer-coverage-pc-table \
        -sanitizer-coverage-trace-compares -simplifycfg-branch-fold-threshold=0; do
        flags+=" -Cllvm-args=$option"
    done
    RUSTFLAGS=$flags CARGO_TARGET_DIR=$place \
        cargo build --quiet --locked --release --target "$host" --features libfuzzer --bins
}

# A hang is harm as well, and so is memory without end.
run() {
    local log=$place/$1.log
    mkdir -p "$place/corpus/$1" "$place/found/$1"
    "$place/$host/release/$1" "$place/corpus/$1" "corpus/$1" -max_total_time="$what" -timeout=10 -rss_limit_mb=2048 \
        -max_len=$longest -len_control=10 -use_value_profile=1 -artifact_prefix="$place/found/$1/" 2>"$log" || {
        tail -40 "$log"
        exit 1
    }
    grep -E '^#[0-9]+\s+(INITED|DONE)' "$log"
}

# Named inputs tell of bugs, and stay whatever else leads where they do.
keep() {
    local kept
    kept=$(mktemp -d)
    "$place/$host/release/$1" -set_cover_merge=1 -use_counters=0 -max_len=$longest "$kept" "corpus/$1" "$place/corpus/$1" \
        2>"$place/$1.log"
    find "corpus/$1" -regextype egrep -regex '.*/[0-9a-f]{40}' -delete
    mv "$kept"/* "corpus/$1/"
    rmdir "$kept"
    find "corpus/$1" -type f | wc -l
}

build
for target in "${targets[@]}"; do
    if [ "$what" = keep ]; then
        echo "==> keep inputs of $target"
        keep "$target"
    else
        echo "==> fuzz $target, $what s"
        run "$target"
    fi
done
