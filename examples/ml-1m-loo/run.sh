#!/usr/bin/env bash
# The whole job on MovieLens-1M, leave one out: converts the files, then runs every stage.
#
#     examples/ml-1m-loo/run.sh FOLDER [OUT] [more options of `twotower run`]
#
# FOLDER holds train.parquet, test.parquet, test_negatives_99.parquet, users.dat and movies.dat; everything is written below OUT
# (default: demo/ml-1m-loo). VALIDATE=1 measures on a training item of each user in place of the test: for choosing settings.
# TWOTOWER names the program to run, PYTHON a Python with what requirements.txt lists.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/scripts/example.sh"
example ml-1m-loo "$@"
set -- "${options[@]}"

tables=$out/data validate=()
if [ -n "${VALIDATE:-}" ]; then tables=$out/validation validate=(--validate); fi
if [ ! -e "$tables/items.parquet" ]; then
    python=$("$root/scripts/python.sh" "$here/requirements.txt")
    "$python" "$here/convert.py" "$data" "$tables" "${validate[@]}"
fi

twotower=$("$root/scripts/program.sh")
sources=()
for table in test candidates users items; do sources+=(--set "sources.$table.path=$tables/$table.parquet"); done
# the data has no days: any date does
exec "$twotower" run -c "$here/config.yaml" --date 2003-02-28 \
    --set output="$out/out${VALIDATE:+-validation}" \
    --set sources.ratings.path="$tables/train.parquet" "${sources[@]}" "$@"
