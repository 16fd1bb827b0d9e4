"""The DAGs of jobs/airflow in a real Airflow: they import, run when they should, and judge exit codes rightly.

Started by scripts/test-airflow.sh, which sets Airflow's environment.
"""

from __future__ import annotations

import json
import os
import threading
import time
import unittest
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.timetables.interval import CronDataIntervalTimetable
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

FOLDER = Path(__file__).resolve().parents[2] / "jobs" / "airflow"
STAGES = ["samples", "train", "embed", "index", "evaluate", "publish"]
# a bundle: the folder is on the import path, as in the DAG processor
BAG = BundleDagBag(dag_folder=str(FOLDER), bundle_path=FOLDER, bundle_name="twotower")
SUMMARY = {"status": "published", "date": "2026-11-20", "release": 7, "run_id": "r", "items": 3, "stages": {}}


class Events(dict):
    """The outlet events of a task, as Airflow gives them."""

    def __missing__(self, asset):
        self[asset] = SimpleNamespace(extra={})
        return self[asset]


def task(dag: str, name: str):
    return BAG.dags[dag].get_task(name)


class Dags(unittest.TestCase):
    def test_all_files_import(self):
        self.assertEqual(BAG.import_errors, {})
        self.assertEqual(sorted(BAG.dags), ["twotower_daily", "twotower_daily_pods", "twotower_daily_single"])

    def test_every_dag_runs_daily_in_utc_with_a_data_interval_and_one_run_at_a_time(self):
        for dag in BAG.dags.values():
            with self.subTest(dag.dag_id):
                self.assertIsInstance(dag.timetable, CronDataIntervalTimetable)
                interval = dag.timetable.infer_manual_data_interval(run_after=at("2026-11-21T09:00"))
                self.assertEqual((interval.start, interval.end), (at("2026-11-20T02:00"), at("2026-11-21T02:00")))
                self.assertEqual(dag.max_active_runs, 1)
                self.assertFalse(dag.catchup)

    def test_stages_follow_each_other(self):
        for dag in ("twotower_daily", "twotower_daily_pods"):
            self.assertEqual(list(BAG.dags[dag].task_dict), STAGES)
            for stage, following in zip(STAGES, [*STAGES[1:], None]):
                expected = {following} - {None}
                self.assertEqual(task(dag, stage).downstream_task_ids, expected)
        self.assertEqual(list(BAG.dags["twotower_daily_single"].task_dict), ["run"])

    def test_each_task_retries_and_skips_and_the_last_one_has_the_release_as_outlet(self):
        for dag in BAG.dags.values():
            for one in dag.tasks:
                with self.subTest(f"{dag.dag_id}.{one.task_id}"):
                    self.assertGreaterEqual(one.retries, 3)
                    self.assertTrue(one.retry_exponential_backoff)
                    self.assertIn(99, one.skip_on_exit_code)
                    outlets = [asset.name for asset in one.outlets]
                    self.assertEqual(outlets, ["twotower_release"] if one.task_id in ("publish", "run") else [])

    def test_a_shell_hands_over_to_the_program_so_that_sigterm_reaches_it(self):
        for dag in ("twotower_daily", "twotower_daily_single"):
            for one in BAG.dags[dag].tasks:
                self.assertTrue(one.bash_command.startswith("exec twotower "), one.bash_command)


class ExitCodes(unittest.TestCase):
    """The bash form, with a program that leaves with a chosen code."""

    def run_task(self, code: int, summary: dict | None = None, name: str = "publish"):
        one = task("twotower_daily", name)
        with TemporaryDirectory() as folder:
            program = Path(folder) / "twotower"
            lines = ["#!/bin/sh", 'test "$2 $3 $4 $5" = "-c job.yaml --date 2026-11-20" || exit 1']
            if summary is not None:
                lines.append(f"cat > $TWOTOWER_XCOM/return.json <<'end'\n{json.dumps(summary)}\nend")
            program.write_text("\n".join([*lines, "echo a log line >&2", f"exit {code}"]) + "\n")
            program.chmod(0o755)
            one.env = {"CONFIG": "job.yaml", "DATE": "2026-11-20", "PATH": f"{folder}:{os.environ['PATH']}"}
            self.context = {"outlet_events": Events()}
            return one.execute(self.context)

    def test_0_passes_the_summary_on_and_tells_the_asset(self):
        self.assertEqual(self.run_task(0, SUMMARY), SUMMARY)
        [events] = self.context["outlet_events"].values()
        self.assertEqual(events.extra, {"release": 7, "date": "2026-11-20", "run_id": "r", "items": 3})

    def test_0_of_an_earlier_stage_tells_no_asset(self):
        self.assertEqual(self.run_task(0, {"status": "samples are built"}, "samples"), {"status": "samples are built"})
        self.assertEqual(self.context["outlet_events"], {})

    def test_0_without_a_release_is_skipped(self):
        with self.assertRaisesRegex(AirflowSkipException, "not published: a later one is out"):
            self.run_task(0, {"status": "not published: a later one is out", "release": None})
        self.assertEqual(self.context["outlet_events"], {})

    def test_99_is_skipped(self):
        with self.assertRaises(AirflowSkipException):
            self.run_task(99, {"status": "no_data"})

    def test_what_a_retry_cannot_help_fails_at_once(self):
        for code in (64, 65, 70, 78):
            with self.subTest(code), self.assertRaisesRegex(AirflowFailException, f"exit code {code}, .*: no such column"):
                self.run_task(code, {"status": "failed", "error": "no such column"})

    def test_everything_else_is_tried_again(self):
        for code in (1, 75, 137, 143):
            with self.subTest(code), self.assertRaisesRegex(AirflowException, f"exit code {code}") as caught:
                self.run_task(code)
            self.assertNotIsInstance(caught.exception, AirflowFailException)


    def test_a_stopped_task_sends_sigterm_to_the_program_and_waits_for_its_end(self):
        one = task("twotower_daily", "train")
        with TemporaryDirectory() as folder:
            program, ready, ended = (Path(folder) / name for name in ("twotower", "ready", "ended"))
            program.write_text(f"#!/bin/bash\ntrap 'touch {ended}; exit 143' TERM\ntouch {ready}\nwhile :; do sleep 0.05; done\n")
            program.chmod(0o755)
            one.env = {"CONFIG": "job.yaml", "DATE": "2026-11-20", "PATH": f"{folder}:{os.environ['PATH']}"}

            def stop():
                while not ready.exists():
                    time.sleep(0.01)
                one.on_kill()

            stopper = threading.Thread(target=stop)
            stopper.start()
            with self.assertRaisesRegex(AirflowException, "exit code 143, worth a retry"):
                one.execute({"outlet_events": Events()})
            stopper.join()
            self.assertTrue(ended.exists())


class Pods(unittest.TestCase):
    def pod(self, name: str = "train") -> dict:
        one = task("twotower_daily_pods", name)
        with mock.patch.object(type(one), "hook"):
            one.hook.is_in_cluster = False
            one.hook.get_xcom_sidecar_container_image.return_value = None
            one.hook.get_xcom_sidecar_container_resources.return_value = None
            one.hook.get_xcom_sidecar_container_security_context.return_value = None
            return ApiClient().sanitize_for_serialization(one.build_pod_request_obj())

    def test_the_pod_runs_the_program_itself_without_rights_and_with_time_to_end(self):
        spec = self.pod()["spec"]
        base = next(container for container in spec["containers"] if container["name"] == "base")
        self.assertEqual(base["command"] + base["args"], "twotower train -c /config/job.yaml --date $(DATE)".split())
        self.assertIn("DATE", [variable["name"] for variable in base["env"]])
        self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], 30)
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        for container in spec["containers"]:
            self.assertFalse(container["securityContext"]["allowPrivilegeEscalation"], container["name"])
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"], container["name"])
        self.assertEqual(spec["serviceAccountName"], "twotower")
        self.assertEqual(base["resources"]["requests"]["memory"], base["resources"]["limits"]["memory"])

    def test_the_summary_comes_back_through_the_folder_that_the_program_looks_for(self):
        spec = self.pod()["spec"]
        for container in spec["containers"]:
            self.assertIn("/airflow/xcom", [mount["mountPath"] for mount in container["volumeMounts"]], container["name"])

    def finish(self, code: int, message: str | None):
        one = task("twotower_daily_pods", "publish")
        terminated = k8s.V1ContainerStateTerminated(exit_code=code, message=message)
        status = k8s.V1ContainerStatus(
            name="base", image="i", image_id="i", ready=False, restart_count=0,
            state=k8s.V1ContainerState(terminated=terminated),
        )
        pod = k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(name="p", namespace="n"),
            status=k8s.V1PodStatus(phase="Succeeded" if code == 0 else "Failed", container_statuses=[status]),
        )
        context = {"ti": mock.Mock(), "outlet_events": Events()}
        quiet = {name: mock.DEFAULT for name in ("is_istio_enabled", "patch_already_checked", "process_pod_deletion")}
        with mock.patch.multiple(KubernetesPodOperator, **quiet) as mocks:
            mocks["is_istio_enabled"].return_value = False
            one.cleanup(pod=pod, remote_pod=pod, xcom_result=None, context=context)

    def test_the_termination_log_decides_about_retries(self):
        self.finish(0, None)
        with self.assertRaises(AirflowSkipException):
            self.finish(99, "[permanent] no data")
        with self.assertRaisesRegex(AirflowFailException, "no such column"):
            self.finish(78, "[permanent] no such column")
        for code, message in ((75, "[transient] the store does not answer"), (137, None)):
            with self.assertRaises(AirflowException) as caught:
                self.finish(code, message)
            self.assertNotIsInstance(caught.exception, AirflowFailException)

    def test_the_published_release_is_told_to_the_asset(self):
        one = task("twotower_daily_pods", "publish")
        context = {"outlet_events": Events()}
        with mock.patch.object(KubernetesPodOperator, "execute", return_value=SUMMARY):
            self.assertEqual(one.execute(context), SUMMARY)
        [events] = context["outlet_events"].values()
        self.assertEqual(events.extra["release"], 7)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


if __name__ == "__main__":
    unittest.main()
