"""A stage as a Job of a Kubernetes cluster, through kubectl.

The pod mounts the project's folder at the same place as ``root``, runs `zreward STAGE` there and
ends with its exit code. A fault of the user is not tried again.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from zreward_core.config import UserError
from zreward_core.runtime.launch_accelerate import Stopped, stoppable
from zreward_core.runtime.launch_settings import LAUNCH_FILE, Kubernetes
from zreward_core.runtime.worker import USER_FAULT

JOB_LABEL = "batch.kubernetes.io/job-name"
CONTAINER = "stage"
START_TIMEOUT = "1h"
"""How long a pod may wait for its node and image before its log is asked for again."""


def manifest(
    settings: Kubernetes, stage: str, command: Sequence[str], environment: dict[str, str]
) -> dict[str, Any]:
    """The Job of a stage (batch/v1).

    Args:
        settings: image, volumes and what to reserve.
        stage: name of the stage.
        command: what the container runs.
        environment: environment variables of the stage.
    """
    labels = {"app.kubernetes.io/name": "zreward", "zreward/stage": stage}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [_container(settings, command, environment)],
        "volumes": [
            *(_volume(n, volume.claim) for n, volume in enumerate(settings.volumes)),
            {
                "name": "shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": settings.shared_memory},
            },
        ],
    }
    if settings.node_selector:
        pod["nodeSelector"] = settings.node_selector
    if settings.service_account:
        pod["serviceAccountName"] = settings.service_account
    user_fault = {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": CONTAINER,
            "operator": "In",
            "values": [USER_FAULT],
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"zreward-{stage.replace('_', '-')}-",
            "namespace": settings.namespace,
            "labels": labels,
        },
        "spec": {
            "backoffLimit": settings.retries,
            "ttlSecondsAfterFinished": settings.keep_seconds,
            "podFailurePolicy": {"rules": [user_fault]},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def run_job(
    settings: Kubernetes, stage: str, command: Sequence[str], environment: dict[str, str]
) -> int:
    """Create a Job, show its log, and return its container's exit code; a signal deletes it.

    Raises:
        UserError: kubectl is missing, or the cluster refuses the Job.
    """
    text = yaml.safe_dump(manifest(settings, stage, command, environment), sort_keys=False)
    with stoppable():
        job = _kubectl(settings, "create", "-f", "-", "-o", "name", given=text).strip()
        name = job.split("/")[-1]
        try:
            while not job_ended(json.loads(_kubectl(settings, "get", job, "-o", "json"))):
                waiting = ("logs", "--follow", f"--pod-running-timeout={START_TIMEOUT}", job)
                subprocess.run(_command(settings, *waiting), stdout=sys.stderr, check=False)
                time.sleep(1.0)
            pods = _kubectl(settings, "get", "pods", "-l", f"{JOB_LABEL}={name}", "-o", "json")
            return exit_code(json.loads(pods))
        except Stopped as stopped:
            _kubectl(settings, "delete", job, "--wait=false")
            return 128 + stopped.number


def job_ended(job: dict[str, Any]) -> bool:
    """Whether a Job (as the API gives it) is complete or has failed."""
    conditions = job.get("status", {}).get("conditions") or []
    return any(
        one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions
    )


def exit_code(pods: dict[str, Any]) -> int:
    """Exit code of a Job's last pod; 1 where it had none that ended (evicted, no node)."""
    found = sorted(pods["items"], key=lambda pod: pod["metadata"]["creationTimestamp"])
    statuses = found[-1]["status"].get("containerStatuses", []) if found else []
    ended = [one["state"]["terminated"] for one in statuses if "terminated" in one["state"]]
    return ended[0]["exitCode"] if ended else 1


def _container(
    settings: Kubernetes, command: Sequence[str], environment: dict[str, str]
) -> dict[str, Any]:
    amounts = {"cpu": settings.cpus, "memory": settings.memory}
    reserved = {name: amount for name, amount in amounts.items() if amount}
    if settings.gpus:
        reserved[settings.gpu_resource] = str(settings.gpus)
    mounts: list[dict[str, Any]] = [{"name": "shm", "mountPath": "/dev/shm"}]
    for number, volume in enumerate(settings.volumes):
        mount = {"name": f"volume-{number}", "mountPath": volume.path}
        mounts.append(mount | ({"subPath": volume.sub_path} if volume.sub_path else {}))
    return {
        "name": CONTAINER,
        "image": settings.image,
        "command": list(command),
        "workingDir": settings.root,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in settings.secrets],
        "resources": {"requests": reserved, "limits": reserved},
        "volumeMounts": mounts,
    }


def _volume(number: int, claim: str) -> dict[str, Any]:
    return {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}}


def _command(settings: Kubernetes, *arguments: str) -> list[str]:
    context = ["--context", settings.context] if settings.context else []
    return ["kubectl", *context, "--namespace", settings.namespace, *arguments]


def _kubectl(settings: Kubernetes, *arguments: str, given: str = "") -> str:
    try:
        done = subprocess.run(
            _command(settings, *arguments), input=given, text=True, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UserError(f"{LAUNCH_FILE} names Kubernetes: kubectl must be on the PATH") from None
    if done.returncode != 0:
        raise UserError(f"kubectl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
