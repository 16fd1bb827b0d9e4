"""What the DAGs of this folder share: when they run, for which date, what a retry can mend, and the release as an asset."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, Param
from airflow.timetables.interval import CronDataIntervalTimetable

# the config, as the tasks see it: the Airflow variable `twotower_config`, or a file that lies on every worker
CONFIG = "{{ var.value.get('twotower_config', '/etc/twotower/job.yaml') }}"

# the first day of the data interval, whose logs are complete when the interval is over; whoever starts a run by hand may name
# another date: airflow dags trigger twotower_daily --conf '{"date": "2026-11-20"}'
DATE = "{{ params.date or (data_interval_start | ds) }}"

# a DAG scheduled on this asset runs when a release was published; the event's `extra` holds its number
RELEASE = Asset(name="twotower_release", group="twotower")

# how often, for which days, one at a time
SCHEDULE: dict[str, Any] = {
    # named, because a bare cron string makes runs without a data interval
    "schedule": CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    "start_date": datetime(2025, 1, 1, tzinfo=timezone.utc),
    "catchup": False,
    # a day starts from the release of the day before it
    "max_active_runs": 1,
    "params": {"date": Param(None, type=["null", "string"], format="date", description="another date than the run's own")},
    "tags": ["twotower"],
}

# for exit code 75 (the store, the network, a partition that is not there yet, another job at work) and for workers that go away
RETRIES: dict[str, Any] = {
    "retries": 6,
    "retry_delay": timedelta(minutes=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(hours=1),
}

NO_DATA = 99
# called wrongly, refused by a gate, a fault of the program, config or SQL or data: the same again ends the same way
PERMANENT = {64: "usage", 65: "a gate refused the release", 70: "a fault of twotower", 78: "config, SQL or data must change"}


def announce(context: Any, outlets: list[Any], summary: dict[str, Any]) -> dict[str, Any]:
    """Tells the release's asset what was published; a task that should have published and did not is skipped."""
    if RELEASE in outlets:
        if summary.get("release") is None:
            raise AirflowSkipException(summary.get("status", "nothing was published"))
        context["outlet_events"][RELEASE].extra = {key: summary.get(key) for key in ("release", "date", "run_id", "items")}
    return summary


class TwotowerOperator(BashOperator):
    """Runs one twotower command on the worker. Its XCom is the program's summary.

    Exit code 99 skips the task. A code that a retry cannot help fails it at once, whatever `retries` says. The program gets
    SIGTERM when the task is stopped, keeps what it finished, and goes on from there when it is started again.
    """

    def __init__(self, **kwargs: Any) -> None:
        # PATH and the store's credentials come from the worker
        kwargs.setdefault("env", {"CONFIG": CONFIG, "DATE": DATE})
        super().__init__(append_env=True, skip_on_exit_code=NO_DATA, **kwargs)

    def execute(self, context: Any) -> dict[str, Any]:
        with ExitStack() as stack:
            # the program writes its summary here, as it does for a pod
            self.results = Path(stack.enter_context(TemporaryDirectory(prefix="twotower")))
            try:
                super().execute(context)
            except AirflowSkipException:
                raise
            except AirflowException as failure:
                code = self.subprocess_hook.sub_process.returncode
                reason = self.summary().get("error", str(failure))
                if code in PERMANENT:
                    raise AirflowFailException(f"exit code {code}, {PERMANENT[code]}: {reason}") from failure
                raise AirflowException(f"exit code {code}, worth a retry: {reason}") from failure
            return announce(context, self.outlets, self.summary())

    def get_env(self, context: Any) -> dict[str, str]:
        return {**super().get_env(context), "TWOTOWER_XCOM": str(self.results)}

    def summary(self) -> dict[str, Any]:
        """What the program wrote; empty if it ended before that."""
        file = self.results / "return.json"
        return json.loads(file.read_text()) if file.exists() else {}
