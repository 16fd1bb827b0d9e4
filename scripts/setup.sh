#!/usr/bin/env bash
# Installs the system packages that the build needs, where they are missing. Says nothing when there is nothing to do.
#
#     scripts/setup.sh [further Debian packages]
set -euo pipefail

fail() { echo "setup: $*" >&2; exit 1; }

packages=(ca-certificates cmake g++ make pkg-config libopenblas-openmp-dev "$@")
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    missing=()
    for package in "${packages[@]}"; do
        # a package that another one stands in for (pkgconf for pkg-config) counts as there
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        sudo=()
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null || fail "missing packages: ${missing[*]}; install them as root: apt-get install ${missing[*]}"
            sudo=(sudo)
        fi
        echo "setup: installing ${missing[*]}" >&2
        install() {
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
        }
        # the package lists of a fresh machine are often absent or old
        install 2>/dev/null || { "${sudo[@]}" apt-get update -qq >/dev/null && install; } || fail "apt-get could not install ${missing[*]}"
    fi
else
    absent=()
    for tool in cmake c++ make pkg-config; do command -v "$tool" >/dev/null || absent+=("$tool"); done
    [ ${#absent[@]} -eq 0 ] || fail "not a Debian system; install these yourself: ${absent[*]}, and OpenBLAS with OpenMP (libblas, liblapack, libgomp)"
fi

command -v cargo >/dev/null || fail "no cargo; install Rust 1.95 or newer from https://rustup.rs"
