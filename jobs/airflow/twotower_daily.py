"""The daily job on Airflow 3: one task for each stage, or the whole run as one task.

Copy this file and twotower_airflow.py into the DAGs folder. The worker needs the `twotower` program on its PATH and the store's
credentials in its environment. Nothing is passed between the tasks but the store itself, and a stage that is done already is
skipped by the program, so retries and cleared tasks cost seconds. The 1st to the 20th, in order (the 20th begins at 02:00):

    airflow backfill create --dag-id twotower_daily --from-date 2026-11-01 --to-date 2026-11-21 --max-active-runs 1
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, chain

from twotower_airflow import RELEASE, RETRIES, SCHEDULE, TwotowerOperator

# exec: SIGTERM reaches the program and not a shell that waits for it
STAGES = {
    "samples": 'exec twotower samples -c "$CONFIG" --date "$DATE"',
    "train": 'exec twotower train -c "$CONFIG" --date "$DATE"',
    "embed": 'exec twotower embed -c "$CONFIG" --date "$DATE"',
    "index": 'exec twotower index -c "$CONFIG" --date "$DATE"',
    "evaluate": 'exec twotower evaluate -c "$CONFIG" --date "$DATE"',
    "publish": 'exec twotower publish -c "$CONFIG" --date "$DATE"',
}
WHOLE = 'exec twotower run -c "$CONFIG" --date "$DATE"'

with DAG(dag_id="twotower_daily", default_args=RETRIES, doc_md=__doc__, **SCHEDULE):
    chain(
        *(
            TwotowerOperator(
                task_id=stage,
                bash_command=command,
                execution_timeout=timedelta(hours=6),
                outlets=[RELEASE] if stage == "publish" else [],
            )
            for stage, command in STAGES.items()
        )
    )

# the same in one task, for a worker that has room for every stage: pause one of the two
with DAG(dag_id="twotower_daily_single", default_args=RETRIES, doc_md=__doc__, **SCHEDULE):
    TwotowerOperator(task_id="run", bash_command=WHOLE, execution_timeout=timedelta(hours=12), outlets=[RELEASE])
