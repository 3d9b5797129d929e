#!/usr/bin/env bash
# pythons.sh [PYTHON]: the interpreters on this machine that the package supports, one of each version; without the version
# of PYTHON.
set -uo pipefail

without=$([ $# -eq 0 ] || "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.9 3.10 3.11 3.12 3.13 3.14; do
    [ "$version" != "$without" ] || continue
    for python in "$(command -v "python$version")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # A shim may be there for a version that is not.
        if "$python" -c "import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            echo "$python"
            break
        fi
    done
done
