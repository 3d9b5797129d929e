#!/usr/bin/env bash
# test-package.sh PYTHON: what a user gets. Builds the source distribution and installs it with pip, as on a machine without
# a wheel; builds a wheel that older Linux systems can use as well, and installs that. Each is used once.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(scripts/venv.sh wheel "$1" scripts/requirements-wheel.txt)
export CARGO_TARGET_DIR=$PWD/target/package PATH=$environment/bin:$PATH
# The files of an archive are as old as it says: cargo would take for theirs what it has built of others.
find "$CARGO_TARGET_DIR" -path '*/.fingerprint/procpool*' -prune -exec rm -r {} + 2>/dev/null || true
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

# use PYTHON NAME ARCHIVE: outside of the checkout, where the package can only be the installed one.
use() {
    "$1" -m venv "$scratch/$2"
    "$scratch/$2/bin/pip" install --quiet --disable-pip-version-check "$3"
    (cd "$scratch" && "$2/bin/python" -W error -c '
import procpool
with procpool.Pool(2) as pool:
    assert pool.map(abs, range(-2, 1)) == [2, 1, 0]
pool.join()
assert "site-packages" in procpool.__file__')
    basename "$3"
}

maturin sdist --out "$scratch" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
use "$1" sdist "$scratch"/*.tar.gz

# With zig's linker, which knows the symbols of older C libraries.
maturin build --quiet --release --locked --zig --compatibility manylinux_2_17 --interpreter "$1" --out "$scratch" \
    >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
use "$1" wheel "$scratch"/*.whl
echo "package: 2 passed, 0 failed"
