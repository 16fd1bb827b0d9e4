#!/usr/bin/env bash
# Format, clippy and documentation, with warnings denied.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
for component in rustfmt clippy; do
    cargo "${component/rust/}" --version >/dev/null 2>&1 || rustup component add "$component"
done
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
for script in scripts/*.sh examples/*/*.sh .ci/run; do bash -n "$script"; done
if command -v python3 >/dev/null; then
    python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' examples/*/*.py jobs/*/*.py tests/*/*.py
fi
