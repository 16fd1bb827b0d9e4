#!/usr/bin/env bash
# Time and peak memory of each stage on larger synthetic logs; then the sample tables beside DuckDB and PySpark (benches/samples); then the
# speed of training beside PyTorch, and what this machine can do at most (benches/peers); then training with up to 10 million ids and
# 4 million rows, from files and from S3 (benches/scale). All below demo/bench, demo/bench-samples and demo/bench-scale; a finished bench is removed first, so that no stage is skipped.
#
#     scripts/bench.sh [USERS] [ITEMS]
#
# TWOTOWER names the program to measure, PYTHON a Python with what the requirements.txt of all benches list. IMPRESSIONS sets the
# size of the sample tables' logs (10,000,000).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
users=${1:-20000} items=${2:-20000}
twotower=$(scripts/program.sh)
logs=demo/bench/logs-$users-$items out=$PWD/demo/bench/out
rm -rf "$out"
[ -e "$logs/impressions/dt=2026-11-20/_SUCCESS" ] || "$twotower" -q generate --out "$logs" --days 7 --users "$users" --items "$items"

set --
for source in impressions items users ranker_scores; do set -- "$@" --set "sources.$source.path=$PWD/$logs/$source"; done
printf '%-10s %10s %12s\n' stage seconds 'peak MiB'
for stage in samples train embed index evaluate publish; do
    began=$(date +%s%N)
    "$twotower" -q "$stage" -c configs/demo.yaml --date 2026-11-20 --set output="$out" --set gates.min_recall_over_popularity=null \
        --set samples.hard_negatives.rank_from=101 --set samples.hard_negatives.rank_to=500 "$@" >/dev/null &
    process=$! peak=0
    # the kernel keeps the high-water mark only while the process lives
    while read -r _ kib _ < <(grep VmHWM "/proc/$process/status" 2>/dev/null); do
        peak=$kib
        sleep 0.05
    done
    wait "$process"
    printf '%-10s %10.1f %12d\n' "$stage" "$((($(date +%s%N) - began) / 1000000))e-3" $((peak / 1024))
done

echo
# Spark wants Java
command -v java >/dev/null || scripts/setup.sh default-jre-headless
python=$(scripts/python.sh benches/samples/requirements.txt)
"$python" benches/samples/compare.py --program "$twotower" --impressions "${IMPRESSIONS:-10000000}"

echo
# torch.compile wants Python's headers
scripts/setup.sh python3-dev
cargo build --quiet --example floors
python=$(scripts/python.sh benches/peers/requirements.txt)
examples=${CARGO_TARGET_DIR:-$PWD/target}/debug/examples
"$python" -W ignore benches/peers/compare.py --program "$twotower" --floors "$examples/floors"

echo
cargo build --quiet --example s3
python=$(scripts/python.sh benches/scale/requirements.txt)
missed=0
"$python" benches/scale/scale.py --program "$twotower" --floors "$examples/floors" || missed=1
"$python" benches/scale/scale.py --program "$twotower" --ids 1e6 --rows 1e6,4e6 --draws zipf --s3 "$examples/s3" || missed=1
exit $missed
