"""The daily job on Airflow 3: one task for each stage, or the whole run as one task.

Copy this file into the DAGs folder and set CONFIG. The worker needs the `twotower` program on its PATH and the store's
credentials in its environment; nothing is passed between the tasks but the store itself. A stage that is done already is
skipped by the program, so retries and cleared tasks cost seconds.

Exit codes: 99 is no data for the date, by the config's policy, which Airflow shows as skipped; 75 is worth a retry; 64, 65
and 78 are not, and a retry of those ends the same way.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

CONFIG = "s3-job.yaml"

STAGES = {
    "samples": 'twotower samples -c "$CONFIG" --date "{{ ds }}"',
    "train": 'twotower train -c "$CONFIG" --date "{{ ds }}"',
    "embed": 'twotower embed -c "$CONFIG" --date "{{ ds }}"',
    "index": 'twotower index -c "$CONFIG" --date "{{ ds }}"',
    "evaluate": 'twotower evaluate -c "$CONFIG" --date "{{ ds }}"',
    "publish": 'twotower publish -c "$CONFIG" --date "{{ ds }}"',
}
WHOLE = 'twotower run -c "$CONFIG" --date "{{ ds }}"'

SETTINGS = {
    # named, because a bare cron string makes runs without a data interval: `ds` is the first day of the interval, which
    # is the day whose logs are complete when the run starts at 02:00 on the next one
    "schedule": CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    "start_date": datetime(2026, 11, 1, tzinfo=timezone.utc),
    # a day starts from the release of the day before it
    "max_active_runs": 1,
    "catchup": False,
    "default_args": {
        "retries": 4,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(hours=1),
        "env": {"CONFIG": CONFIG},
        # PATH and the store's credentials come from the worker
        "append_env": True,
        "skip_on_exit_code": 99,
    },
    "tags": ["twotower"],
}

with DAG(dag_id="twotower_daily", **SETTINGS):
    before = None
    for stage, command in STAGES.items():
        task = BashOperator(task_id=stage, bash_command=command, execution_timeout=timedelta(hours=6))
        if before is not None:
            before >> task
        before = task

# the same in one task, for a machine that has room for every stage: pause one of the two
with DAG(dag_id="twotower_daily_single", **SETTINGS):
    BashOperator(task_id="run", bash_command=WHOLE, execution_timeout=timedelta(hours=12))
