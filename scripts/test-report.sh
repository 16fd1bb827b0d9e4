#!/usr/bin/env bash
# Looks at the demo's reports in headless Chromium: a release's, a refused candidate's, and a comparison. Installs what is missing.
# Screenshots go to target/report (or the folder given).
#
#     scripts/test-report.sh [folder for screenshots]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# 75: the browser cannot be had now, which says nothing of the reports
scripts/setup.sh chromium chromium-driver python3 || exit 75
[ -e demo/out/releases/00000002.json ] || scripts/demo.sh >/dev/null
shots=${1:-target/report}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# a refused candidate has no place in the demo's own output
cp -r demo/out "$work/out"
twotower=$(scripts/program.sh)
job=(-c configs/demo.yaml --set "output=$work/out")
status=0
"$twotower" run "${job[@]}" --date 2026-11-21 --set training.seed=5 --set gates.min_recall=0.99 >"$work/refused.log" 2>&1 || status=$?
[ $status = 65 ] || { cat "$work/refused.log" >&2; echo "expected the gate to refuse the candidate (65), got $status" >&2; exit 1; }

release=$("$twotower" report "${job[@]}")
refused=$("$twotower" report "${job[@]}" --date 2026-11-21)
"$twotower" report "${job[@]}" --compare 1 2 --out "$work/compare.html" >/dev/null
charts=recall-by-k,recall-by-popularity,trend,trend-index,trend-items,loss,validation,tables,samples-by-day,sources-by-day,table-rows
charts+=,popularity,ranks,picture-popularity,picture-group,norms,similarity,search,time,memory,bytes
python3 tests/browser/look.py --shots "$shots" --expect "$charts" \
    "release=$release" "refused=$refused" "compare=$work/compare.html"
