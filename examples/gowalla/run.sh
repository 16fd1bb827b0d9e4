#!/usr/bin/env bash
# The whole job on Gowalla: converts the text files, then runs every stage.
#
#     examples/gowalla/run.sh FOLDER [OUT] [more options of `twotower run`]
#
# FOLDER holds train.txt and test.txt; everything is written below OUT (default: demo/gowalla). TWOTOWER names the program
# to run, PYTHON a Python with what requirements.txt lists.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/scripts/example.sh"
example gowalla "$@"
set -- "${options[@]}"

if [ ! -e "$out/data/test.parquet" ]; then
    python=$("$root/scripts/python.sh" "$here/requirements.txt")
    "$python" "$here/convert.py" "$data" "$out/data"
fi

twotower=$("$root/scripts/program.sh")
# the data has no days: any date does
exec "$twotower" run -c "$here/config.yaml" --date 2010-10-31 \
    --set output="$out/out" \
    --set sources.interactions.path="$out/data/train.parquet" \
    --set sources.test.path="$out/data/test.parquet" "$@"
