#!/usr/bin/env bash
# The whole job on KuaiRand: fits the ranker, then runs every stage.
#
#     examples/kuairand/run.sh FOLDER [OUT] [more options of `twotower run`]
#
# FOLDER holds events/, history_positives.parquet, users.parquet and items.parquet; everything is written below OUT
# (default: demo/kuairand). TWOTOWER names the program to run, PYTHON a Python with what requirements.txt lists.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/scripts/example.sh"
example kuairand "$@"
set -- "${options[@]}"
date=2022-05-04

if [ ! -e "$out/ranker_scores/dt=$date/_SUCCESS" ]; then
    python=$("$root/scripts/python.sh" "$here/requirements.txt")
    "$python" "$here/fit_ranker.py" "$data" "$out/ranker_scores" --date "$date" --report
fi

twotower=$("$root/scripts/program.sh")
exec "$twotower" run -c "$root/configs/kuairand.yaml" --date "$date" \
    --set output="$out/out" \
    --set sources.events.path="$data/events" \
    --set sources.future_events.path="$data/events" \
    --set sources.history_positives.path="$data/history_positives.parquet" \
    --set sources.users.path="$data/users.parquet" \
    --set sources.items.path="$data/items.parquet" \
    --set sources.ranker_scores.path="$out/ranker_scores" "$@"
