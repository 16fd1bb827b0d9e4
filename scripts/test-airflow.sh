#!/usr/bin/env bash
# Tries jobs/airflow in a real Airflow 3, on a metadata database of its own in a temporary folder.
#
#     scripts/test-airflow.sh import    the DAGs import, and judge exit codes rightly: seconds, needs no twotower
#     scripts/test-airflow.sh           that; then two dates with `airflow dags test`, a backfill of three dates through scheduler and
#                                       API server, and a look at the releases: minutes
#
# Airflow comes from PyPI in the versions of jobs/airflow/requirements.txt, into target/airflow. $PYTHON names another python3.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
say() { printf '\n== %s\n' "$*"; }
fail() { echo "test-airflow: $*" >&2; exit 1; }

environment() {
    local python=${PYTHON:-python3} wanted
    command -v "$python" >/dev/null || scripts/setup.sh python3 python3-venv
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
        fail "Airflow needs Python 3.11 to 3.13, this is $("$python" --version); name another one with PYTHON=…"
    venv=${CARGO_TARGET_DIR:-$root/target}/airflow
    wanted=$(sha256sum jobs/airflow/requirements.txt)
    if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
        say "installing Airflow into $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" 2>/dev/null || { scripts/setup.sh python3-venv && "$python" -m venv "$venv"; } || exit 75
        # 75: Airflow cannot be had now, which says nothing of the DAGs
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r jobs/airflow/requirements.txt || exit 75
        echo "$wanted" >"$venv/installed"
    fi
    export PATH=$venv/bin:$PATH
}

work=$(mktemp -d)
servers=()
cleanup() {
    local status=$?
    for server in "${servers[@]}"; do kill -- "-$server" 2>/dev/null || true; done
    for server in "${servers[@]}"; do wait "$server" 2>/dev/null || true; done
    if [ $status != 0 ]; then
        for log in "$work"/*.log; do
            [ -f "$log" ] && printf '\n-- the end of %s\n' "${log##*/}" && tail -n 40 "$log"
        done
    fi
    rm -rf "$work"
}
trap cleanup EXIT

export AIRFLOW_HOME=$work/airflow
export AIRFLOW__CORE__DAGS_FOLDER=$root/jobs/airflow AIRFLOW__CORE__LOAD_EXAMPLES=False
# no pyc files beside the DAGs
export PYTHONDONTWRITEBYTECODE=1
environment

say "airflow $(airflow version 2>/dev/null | tail -n 1): the DAGs import, exit codes are judged"
airflow db migrate >"$work/migrate.log" 2>&1
python tests/airflow/test_dags.py 2>"$work/checks.log" || { cat "$work/checks.log"; exit 1; }
grep -E '^(Ran|OK)' "$work/checks.log"
[ "${1:-}" != import ] || exit 0

# days of the last fortnight, because Airflow does not backfill days to come
today=$(date -u +%F)
day() { date -u -d "$today - $1 days" +%F; }
twotower=$(scripts/program.sh)
mkdir "$work/bin"
ln -s "$twotower" "$work/bin/twotower"
export PATH=$work/bin:$PATH

say "twelve days of synthetic logs"
twotower -q generate --out "$work/logs" --days 12 --seed 17 --start "$(day 13)" --users 400 --items 300
# the demo's config over these logs, cut down to seconds
sed -e "s#\.\./demo/logs#$work/logs#; s#\.\./demo/out#$work/out#; s/epochs: 8/epochs: 4/; s/batch_size: 512/batch_size: 64/" \
    configs/demo.yaml >"$work/job.yaml"
export AIRFLOW_VAR_TWOTOWER_CONFIG=$work/job.yaml

# `dags test DAG T`: the data interval is the last one that was over at T, so T is the morning after the date
dags_test() {
    local dag=$1 date=$2
    say "airflow dags test $dag, for $date"
    timeout 300 airflow dags test "$dag" "$(date -u -d "$date + 1 day" +%F)T02:00:00+00:00" >"$work/dags-test.log" 2>&1
    python tests/airflow/runs.py last
}
releases() { twotower release list -c "$work/job.yaml" --json; }
published() { releases | python -c 'import json, sys; print(*(release["date"] for release in json.load(sys.stdin)))'; }

dags_test twotower_daily "$(day 6)"
dags_test twotower_daily_single "$(day 5)"
[ "$(published)" = "$(day 6) $(day 5)" ] || fail "after two dates the releases are of: $(published)"

say "once more: what is done is not done again"
dags_test twotower_daily_single "$(day 5)"
[ "$(published)" = "$(day 6) $(day 5)" ] || fail "a second run of the same date published again: $(published)"

say "a date without logs is skipped"
dags_test twotower_daily_single "$(day 1)"
[[ $(python tests/airflow/runs.py last) =~ run\ +skipped ]] || fail "the task was not skipped"

say "airflow backfill create, $(day 4) to $(day 2), through scheduler and API server"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export AIRFLOW__CORE__EXECUTOR=LocalExecutor AIRFLOW__CORE__PARALLELISM=2
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://127.0.0.1:$port/execution/
export AIRFLOW__API__BASE_URL=http://127.0.0.1:$port
AIRFLOW__API_AUTH__JWT_SECRET=$(python -c 'import secrets; print(secrets.token_hex(32))')
export AIRFLOW__API_AUTH__JWT_SECRET
serve() {
    local name=$1
    shift
    setsid airflow "$@" >"$work/$name.log" 2>&1 &
    servers+=($!)
}
serve dag-processor dag-processor
serve api-server api-server --host 127.0.0.1 --port "$port" --workers 1
serve scheduler scheduler

python tests/airflow/runs.py backfill twotower_daily "$(day 4)" "$(day 2)"
[ "$(published)" = "$(day 6) $(day 5) $(day 4) $(day 3) $(day 2)" ] || fail "after the backfill the releases are of: $(published)"

say "the releases"
twotower release list -c "$work/job.yaml"
twotower release verify -c "$work/job.yaml"
echo "test-airflow: passed"
