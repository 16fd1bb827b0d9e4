#!/usr/bin/env bash
# Thirty generated days with drifting taste and new items each day, each run from its parent and from nothing: recall and time of both,
# and recall of items that are new. All below demo/replay. Options as in benches/replay/replay.py: scripts/replay.sh --days 7
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python3 benches/replay/replay.py --program "$(scripts/program.sh)" "$@"
