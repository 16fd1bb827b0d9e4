#!/usr/bin/env bash
# Prints the program: $TWOTOWER, else the one that cargo builds here.
set -euo pipefail

if [ -n "${TWOTOWER:-}" ]; then echo "$TWOTOWER"; exit; fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo build --quiet --manifest-path "$root/Cargo.toml" >&2
echo "${CARGO_TARGET_DIR:-$root/target}/debug/twotower"
