#!/usr/bin/env bash
# A week of synthetic logs, the job for two dates, and what it recommends to one user. All below demo/.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
twotower=$(scripts/program.sh)
step() { printf '\n$ twotower %s\n' "$*"; "$twotower" "$@"; }

step generate --out demo/logs --days 8 --seed 17
step run -c configs/demo.yaml --date 2026-11-20
step run -c configs/demo.yaml --date 2026-11-21
step release list -c configs/demo.yaml
step recommend -c configs/demo.yaml --user 1001 -k 10
