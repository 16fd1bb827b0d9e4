"""The daily job on Airflow 3 with a pod for each stage.

Copy this file and twotower_airflow.py into the DAGs folder. Namespace, service account and config are those of jobs/kubernetes;
the pods take the store's credentials from the service account. Airflow's workers need no twotower, only the right to start pods.
"""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.container import get_container_termination_message
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, chain
from kubernetes.client import models as k8s

from twotower_airflow import DATE, NO_DATA, RELEASE, RETRIES, SCHEDULE, announce

IMAGE = "registry.example.org/twotower:0.1.0"
# Kubernetes puts the variable DATE in
STAGES = {
    "samples": 'twotower samples -c /config/job.yaml --date "$(DATE)"',
    "train": 'twotower train -c /config/job.yaml --date "$(DATE)"',
    "embed": 'twotower embed -c /config/job.yaml --date "$(DATE)"',
    "index": 'twotower index -c /config/job.yaml --date "$(DATE)"',
    "evaluate": 'twotower evaluate -c /config/job.yaml --date "$(DATE)"',
    "publish": 'twotower publish -c /config/job.yaml --date "$(DATE)"',
}

# what a stage needs: Kubernetes ends the container that takes more memory than its limit
SMALL = k8s.V1ResourceRequirements(requests={"cpu": "2", "memory": "4Gi"}, limits={"memory": "4Gi"})
LARGE = k8s.V1ResourceRequirements(requests={"cpu": "8", "memory": "16Gi"}, limits={"memory": "16Gi"})
RESOURCES = {"samples": LARGE, "train": LARGE}

POD = k8s.V1PodSecurityContext(
    run_as_non_root=True,
    run_as_user=10001,
    run_as_group=10001,
    fs_group=10001,
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
CONTAINER = k8s.V1SecurityContext(
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
)


class TwotowerPodOperator(KubernetesPodOperator):
    """Runs one twotower command in a pod. Its XCom is the program's summary, from /airflow/xcom/return.json.

    The program writes `[permanent]` or `[transient]` and the reason to the container's termination log. A permanent failure fails
    the task at once, whatever `retries` says; a pod that was evicted or ran out of memory leaves no such word, and is tried again.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        return announce(context, self.outlets, super().execute(context) or {})

    def cleanup(self, pod: Any, remote_pod: Any, *args: Any, **kwargs: Any) -> None:
        try:
            super().cleanup(pod, remote_pod, *args, **kwargs)
        except AirflowSkipException:
            raise
        except AirflowException as failure:
            reason = get_container_termination_message(remote_pod, self.base_container_name) or ""
            if reason.startswith("[permanent]"):
                raise AirflowFailException(reason) from failure
            raise


def stage(name: str, command: str) -> TwotowerPodOperator:
    program, *arguments = shlex.split(command)
    return TwotowerPodOperator(
        task_id=name,
        outlets=[RELEASE] if name == "publish" else [],
        execution_timeout=timedelta(hours=6),
        namespace="twotower",
        name=f"twotower-{name}",
        image=IMAGE,
        # no shell between Kubernetes and the program: it is process 1 of its container, and gets SIGTERM
        cmds=[program],
        arguments=arguments,
        env_vars={"DATE": DATE},
        do_xcom_push=True,
        skip_on_exit_code=NO_DATA,
        # the program ends by itself within 25 seconds
        termination_grace_period=45,
        on_finish_action="delete_succeeded_pod",
        deferrable=False,
        startup_timeout_seconds=900,
        service_account_name="twotower",
        container_resources=RESOURCES.get(name, SMALL),
        security_context=POD,
        container_security_context=CONTAINER,
        xcom_sidecar_container_security_context=CONTAINER,
        volumes=[
            k8s.V1Volume(name="config", config_map=k8s.V1ConfigMapVolumeSource(name="twotower")),
            # what the SQL engine spills, and files on their way to the store
            k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="50Gi")),
        ],
        volume_mounts=[
            k8s.V1VolumeMount(name="config", mount_path="/config", read_only=True),
            k8s.V1VolumeMount(name="scratch", mount_path="/tmp"),
        ],
    )


with DAG(dag_id="twotower_daily_pods", default_args=RETRIES, doc_md=__doc__, **SCHEDULE):
    chain(*(stage(name, command) for name, command in STAGES.items()))
