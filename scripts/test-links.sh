#!/usr/bin/env bash
# However a program was linked, it gets its workers without a word in `main` and in its tests.
#
# Workers begin in the executable's `.init_array`, and tasks are offsets into its text: both are made by the linker, and
# both could be lost by an optimisation or by another linker. So a crate like a user's, with procpool as its dependency,
# is built in every profile and by every linker that is here, run as a program and as a test, and its answers compared.
set -uo pipefail
cd "$(dirname "$0")/.."

answer="0 1 4 9 16 25 36 49 64 81"
passed=0
failed=0

crate=${CARGO_TARGET_DIR:-target}/links
mkdir -p "$crate"
crate=$(realpath "$crate")
export CARGO_TARGET_DIR=$crate/target
cp Cargo.lock "$crate"
cat >"$crate/Cargo.toml" <<END
[package]
name = "links"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
procpool = { path = "$PWD/crates/procpool", default-features = false }

[features]
default = ["hook"]
hook = ["procpool/hook"]

[[bin]]
name = "squares"
path = "$PWD/examples/rust/squares.rs"

[[bin]]
name = "explicit_init"
path = "$PWD/examples/rust/explicit_init.rs"

[profile.fat]
inherits = "release"
lto = "fat"
codegen-units = 1
END

# build PROGRAM PROFILE [FLAG OF cargo...] [-- FLAG OF rustc...]: sets `program`. The flags of rustc reach the last crate
# alone, so that no dependency is built once more for another linker.
build() {
    local name=$1 profile=$2 folder=$2
    shift 2
    [ "$profile" = dev ] && folder=debug
    program=$CARGO_TARGET_DIR/$folder/$name
    cargo rustc --quiet --manifest-path "$crate/Cargo.toml" --bin "$name" --profile "$profile" "$@"
}

# A program that hangs is killed: `timeout` ends with 124 then, which is no answer.
run() {
    said=$(timeout --kill-after=5 60 "$program" 2>&1)
}

# verdict NAME STATUS: counts, and shows what the program said if it was not what was asked of it.
verdict() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "  ok      $1"
    else
        failed=$((failed + 1))
        echo "  FAILED  $1"
        printf '%s\n' "${said:-it was not built}" | sed 's/^/          /'
    fi
    said=
}

answers() {
    local name=$1
    shift
    build "$@" && run && [ "$said" = "$answer" ]
    verdict "$name" $?
}

passes_its_test() {
    local name=$1
    shift
    build "$@" --test && run && [[ $said == *"1 passed; 0 failed"* ]]
    verdict "$name" $?
}

# Without the hook and without `init` no worker can begin. The program must be told so, and not start itself for ever.
refuses() {
    local name=$1
    shift
    build "$@" && ! run && [[ $said == *"procpool::init"* ]]
    verdict "$name" $?
}

# On x86-64 Linux the compiler links with an lld of its own; there it can be told to leave the choice to the C compiler.
linkers() {
    [ "$(rustc --print host-tuple)" = x86_64-unknown-linux-gnu ] || return
    local linker
    for linker in bfd lld mold; do
        command -v "ld.$linker" >/dev/null && echo "$linker"
    done
}

for profile in dev release fat; do
    answers "a program, $profile" squares "$profile"
    passes_its_test "a test, $profile" squares "$profile" --
done

for linker in $(linkers); do
    flags=(-Clinker-features=-lld "-Clink-arg=-fuse-ld=$linker")
    answers "a program, dev, linked by ld.$linker" squares dev -- "${flags[@]}"
    passes_its_test "a test, dev, linked by ld.$linker" squares dev -- "${flags[@]}"
    answers "a program, fat, linked by ld.$linker" squares fat -- "${flags[@]}"
done

answers "a program with init() and the hook, dev" explicit_init dev
answers "a program with init() and no hook, dev" explicit_init dev --no-default-features
answers "a program with init() and no hook, fat" explicit_init fat --no-default-features
refuses "a program with neither is told what to write" squares dev --no-default-features

echo "links: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
