# What the examples' run.sh share: `example NAME FOLDER [OUT] …` checks the arguments and sets `data` and `out`, absolute, and `options`,
# what is left for `twotower run`. Sourced by a script that has set `root`; its own head comment is the usage.

example() {
    local name=$1
    shift
    [ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64; }
    data=$(cd "$1" && pwd)
    shift
    out=$root/demo/$name
    if [ $# -ge 1 ] && [ "${1#-}" = "$1" ]; then out=$1; shift; fi
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    options=("$@")
}
