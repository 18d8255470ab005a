"""The Job against the schema of batch/v1, and how its end is read. No cluster is needed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zreward_core.runtime.launch_kubernetes import exit_code, job_ended, manifest
from zreward_core.runtime.launch_settings import Kubernetes

FULL = Kubernetes(
    kind="kubernetes",
    image="registry.example/zreward:1",
    volumes=[
        {"claim": "projects", "path": "/project", "sub_path": "mine"},
        {"claim": "models", "path": "/models"},
    ],
    gpus=8,
    cpus="32",
    memory="512Gi",
    node_selector={"gpu": "h100"},
    service_account="trainer",
    secrets=["hub-token"],
    retries=3,
)
SMALL = Kubernetes(kind="kubernetes", image="i", volumes=[{"claim": "c", "path": "/project"}])
COMMAND = ["zreward", "--root", "/project", "train_gdso"]


@pytest.mark.parametrize("settings", [FULL, SMALL])
def test_the_manifest_fits_the_schema(settings: Kubernetes) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate (extra dev) holds the schema"
    )
    made = manifest(settings, "train_gdso", COMMAND, {"ZREWARD_WORKER": "1"})
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(made, version, strict=True)
    del made["spec"]["template"]["spec"]["containers"][0]["name"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, version, strict=True)


def test_the_pod_runs_the_stage_with_what_it_was_given() -> None:
    made = manifest(FULL, "train_gdso", COMMAND, {"ZREWARD_WORKER": "1"})
    assert made["metadata"]["generateName"] == "zreward-train-gdso-"
    assert made["spec"]["backoffLimit"] == 3
    (rule,) = made["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == COMMAND and container["workingDir"] == "/project"
    assert container["env"] == [{"name": "ZREWARD_WORKER", "value": "1"}]
    limits = {"cpu": "32", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert container["resources"] == {"requests": limits, "limits": limits}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert mounted["shm"] == "/dev/shm" and mounted["volume-0"] == "/project"


def pod(created: str, **state: dict) -> dict:
    return {
        "metadata": {"creationTimestamp": created},
        "status": {"containerStatuses": [{"state": state}]},
    }


def test_the_last_pod_gives_the_exit_code() -> None:
    first = pod("2026-01-01T00:00:00Z", terminated={"exitCode": 137})
    last = pod("2026-01-01T01:00:00Z", terminated={"exitCode": 2})
    assert exit_code({"items": [last, first]}) == 2
    assert exit_code({"items": [pod("2026-01-01T00:00:00Z", waiting={})]}) == 1
    assert exit_code({"items": []}) == 1


def test_a_job_has_ended_when_it_says_so() -> None:
    assert not job_ended({})
    assert not job_ended({"status": {"conditions": [{"type": "Suspended", "status": "True"}]}})
    assert job_ended({"status": {"conditions": [{"type": "Failed", "status": "True"}]}})


def test_the_command_prints_the_job_and_starts_nothing(tmp_path: Path) -> None:
    pod = {"kind": "kubernetes", "image": "i", "volumes": [{"claim": "c", "path": "/project"}]}
    launchers = {"pod": {**pod, "inside": "eight"}, "eight": {"kind": "accelerate", "processes": 8}}
    content = {"launchers": launchers, "stages": {"train_gdso": "pod"}}
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-P", "-m", "zreward_core", "--root", str(tmp_path), "manifest"]
    done = subprocess.run([*command, "train_gdso"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (container,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given["ZREWARD_WORKER"] == "1" and given["ZREWARD_LAUNCHER"] == "eight"
    assert container["command"] == COMMAND
    refused = subprocess.run([*command, "label"], capture_output=True, text=True)
    assert refused.returncode == 2 and "'stages.label'" in refused.stderr
