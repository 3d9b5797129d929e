#!/usr/bin/env bash
# venv.sh NAME PYTHON REQUIREMENTS: a virtual environment of this interpreter, in target/venv/VERSION-NAME. It is made anew
# where these requirements are not those that it was made with. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1 python=$2 requirements=$3
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
environment=$PWD/target/venv/$version${name:+-$name}
if ! cmp --silent "$requirements" "$environment/requirements.txt"; then
    {
        "$python" -m venv --clear "$environment"
        "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$environment/requirements.txt"
    } >&2
fi
echo "$environment"
