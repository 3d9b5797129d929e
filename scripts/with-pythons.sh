#!/usr/bin/env bash
# with-pythons.sh PYTHON PROGRAM: builds the package for every interpreter that is here, and runs a program of PYTHON with
# the paths of all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

environments=()
while read -r python; do
    environments+=("$(scripts/python-env.sh "$python")")
done < <(scripts/pythons.sh)
exec "$1" "$2" "${environments[@]}"
