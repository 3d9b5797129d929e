#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs a command under a heading and says how long it took.
set -uo pipefail

name=$1
shift

echo "==> $name"
SECONDS=0
"$@"
status=$?
if [ "$status" -eq 0 ]; then
    echo "<== $name: $SECONDS s"
else
    echo "<== $name: failed with status $status after $SECONDS s"
fi
exit "$status"
