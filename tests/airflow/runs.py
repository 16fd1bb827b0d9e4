"""Shows runs from Airflow's metadata database, and starts a backfill and waits for it. For scripts/test-airflow.sh.

python runs.py last                          the newest run and its tasks; fails if it failed
python runs.py backfill DAG FIRST LAST       with Airflow's own command, both ends included
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from datetime import date, timedelta

# seconds until the DAG processor has read the DAG, and until the backfill is done
READY, DONE = 120, 420


def ask(question: str, *values) -> list[tuple]:
    database = sqlite3.connect(f"file:{os.environ['AIRFLOW_HOME']}/airflow.db?mode=ro", uri=True, timeout=30)
    try:
        return database.execute(question, values).fetchall()
    finally:
        database.close()


def wait(seconds: float, what: str, done) -> list[tuple]:
    until = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > until:
            sys.exit(f"runs: after {seconds} s still waiting for {what}")
        time.sleep(1)
    return found


def show(which: str, *values) -> None:
    """The tasks of the runs that `which` selects, in the order they ended, with what they took."""
    tasks = ask(
        "select substr(r.data_interval_start, 1, 10), t.task_id, t.state, (julianday(t.end_date) - julianday(t.start_date)) * 86400"
        f" from task_instance t join dag_run r on r.run_id = t.run_id and r.dag_id = t.dag_id where {which} order by t.end_date",
        *values,
    )
    for day, task, state, seconds in tasks:
        print(f"{day}  {task:<9} {state:<8} {seconds or 0:6.1f} s")
    for (extra,) in ask("select extra from asset_event order by id"):
        print("asset event", extra)


def last() -> None:
    [(run, dag, state)] = ask("select id, dag_id, state from dag_run order by id desc limit 1")
    print(f"{dag}: {state}")
    show("r.id = ?", run)
    if state != "success":
        sys.exit(1)


def backfill(dag: str, first: str, last: str) -> None:
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    wait(READY, f"{dag} in the database", lambda: ask("select 1 from serialized_dag where dag_id = ?", dag))
    # a paused DAG's backfill waits
    subprocess.run(["airflow", "dags", "unpause", "--yes", dag], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # both ends are points in time, and the last day's run is the one that begins at 02:00
    ends = ["--from-date", first, "--to-date", (date.fromisoformat(last) + timedelta(days=1)).isoformat()]
    create = ["airflow", "backfill", "create", "--dag-id", dag, *ends, "--max-active-runs", "1"]
    print("$", *create)
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ended() -> list[tuple]:
        found = ask("select state from dag_run where backfill_id is not null")
        return found if found and all(state in ("success", "failed") for (state,) in found) else []

    states = [state for (state,) in wait(DONE, "the runs of the backfill", ended)]
    show("r.backfill_id is not null")
    if states != ["success"] * days:
        sys.exit(f"runs: expected {days} successful runs, found {states}")


if __name__ == "__main__":
    {"last": last, "backfill": backfill}[sys.argv[1]](*sys.argv[2:])
