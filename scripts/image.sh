#!/usr/bin/env bash
# The steps of the Dockerfile, and the same without a container engine.
#
#     scripts/image.sh build OUT [PROFILE]      compiles the program and puts it into OUT, stripped; PROFILE: release or dev
#     scripts/image.sh runtime                  installs what the program needs into this system, as root, and makes its user
#     scripts/image.sh root FOLDER [PROFILE]    both, into a minimal Debian below FOLDER, and tries the program in it; needs root
#                                               and debootstrap. $TWOTOWER names a program that is built already
set -euo pipefail

fail() { echo "image: $*" >&2; exit 1; }
# the libraries that the program links at run time, and the certificates for HTTPS
packages=(ca-certificates libgomp1 libopenblas0-openmp)
user=10001

build() {
    local out=$1 profile=${2:-release} root program
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    mkdir -p "$out"
    program=${TWOTOWER:-}
    if [ -z "$program" ]; then
        (cd "$root" && scripts/setup.sh && cargo build --locked --profile "$profile")
        program=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}/twotower
    fi
    # debug information and symbols are most of a program's size
    strip -o "$out/twotower" "$program"
}

runtime() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/*.log /var/log/apt
    rm -rf /usr/share/doc /usr/share/man /usr/share/locale
    echo "twotower:x:$user:$user:twotower:/tmp:/usr/sbin/nologin" >>/etc/passwd
    echo "twotower:x:$user:" >>/etc/group
}

root() {
    local folder=$1 profile=${2:-release} here suite
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    [ "$(id -u)" = 0 ] || fail "\`root\` needs root: it unpacks a system and enters it with chroot"
    command -v debootstrap >/dev/null || "$here/setup.sh" debootstrap
    [ ! -e "$folder" ] || fail "$folder is there already; give a folder that is not"
    # the C library must be as old as the one that the program is linked with, or newer
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    debootstrap --variant=minbase "$suite" "$folder" >/dev/null || fail "debootstrap failed; see $folder/debootstrap/debootstrap.log"
    # the network as this machine has it
    cp -L /etc/resolv.conf /etc/hosts "$folder/etc/"
    cp "${BASH_SOURCE[0]}" "$folder/tmp/image.sh"
    chroot "$folder" /tmp/image.sh runtime
    rm "$folder/tmp/image.sh" "$folder/etc/resolv.conf"
    build "$folder/usr/local/bin" "$profile"
    inspect "$folder"
}

# What is in there, and does the program run in it, as the user that it will have?
inspect() {
    local folder=$1 missing
    missing=$(chroot "$folder" ldd /usr/local/bin/twotower | grep 'not found' || true)
    [ -z "$missing" ] || fail "libraries are missing: $missing"
    chroot --userspec "$user:$user" "$folder" /usr/local/bin/twotower --version
    chroot --userspec "$user:$user" "$folder" /usr/local/bin/twotower generate --out /tmp/logs --days 1 --users 20 --items 20 >/dev/null
    rm -rf "$folder/tmp/logs"
    echo "$(du -sm --apparent-size "$folder" | cut -f1) MB in all:"
    echo "  $(du -m --apparent-size "$folder/usr/local/bin/twotower" | cut -f1) MB the program"
    echo "  $(du -smc --apparent-size -L "$folder"/usr/lib/*/openblas-openmp "$folder"/usr/lib/*/lib{gomp,gfortran,quadmath}.so.? 2>/dev/null | tail -n 1 | cut -f1) MB OpenBLAS, OpenMP and Fortran"
}

case ${1:-} in
    build) build "${2:?OUT is missing}" "${3:-release}" ;;
    runtime) runtime ;;
    root) root "${2:?FOLDER is missing}" "${3:-release}" ;;
    *) fail "build OUT [PROFILE], runtime, or root FOLDER [PROFILE]" ;;
esac
