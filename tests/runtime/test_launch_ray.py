"""Stages on a Ray cluster of two nodes that the test starts on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray", reason="Ray is not installed: pip install 'zreward[ray]'")
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "ZREWARD_TRACKING": "off",
    "OMP_NUM_THREADS": "1",
    # Ray's own limits are for an idle machine
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_gcs_server_port_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "100",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_worker_niceness": "0",  # by default other programs' processes go first
}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the dashboard of a cluster of two nodes with one CPU each, on this machine."""
    dashboard, port = free_port(), free_port()
    logs = tmp_path_factory.mktemp("ray")
    found = f"http://127.0.0.1:{dashboard}"
    head = [
        "--head", f"--port={port}", "--include-dashboard=true", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    with node(head, logs / "head.txt") as process:
        wait_for(lambda: num_nodes(found) == 1 and runs_jobs(found), process)
        with node([f"--address=127.0.0.1:{port}"], logs / "second.txt") as process:
            wait_for(lambda: num_nodes(found) == 2, process)
            yield found


@contextmanager
def node(arguments: list[str], log: Path) -> Iterator[subprocess.Popen]:
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1",
        "--object-store-memory=100000000", "--disable-usage-stats", *arguments,
    ]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def num_nodes(address: str) -> int:
    with urllib.request.urlopen(f"{address}/nodes?view=summary", timeout=60) as answer:
        nodes = json.load(answer)["data"]["summary"]
    return sum(node["raylet"]["state"] == "ALIVE" for node in nodes)


def runs_jobs(address: str) -> bool:
    """Whether the agent that starts jobs is ready; it is later than the API."""
    from ray.job_submission import JobSubmissionClient

    return bool(JobSubmissionClient(address).submit_job(entrypoint="true"))


def wait_for(ready: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 900
    while True:
        with suppress(OSError, RuntimeError, KeyError):
            if ready():
                return
        assert process.poll() is None and time.monotonic() < deadline, "Ray did not start"
        time.sleep(1)


@pytest.fixture
def root(tmp_path: Path, address: str) -> Path:
    world = {"size": 12, "held_out": 2, "pretraining_prompts": 8, "held_out_prompts": 2}
    world |= {"annotation_prompts": 4, "unlabelled_prompts": 2, "generator_train_prompts": 2}
    world |= {"generator_eval_prompts": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"seed": 1, "world": world, "label": {}}))
    launchers = {
        "ray": {"kind": "ray", "address": address},
        "both": {"kind": "ray", "address": address, "inside": "two"},
        "two": {"kind": "accelerate", "processes": 2, "cpu": True},
    }
    stages = {"world": "ray", "label": "both"}
    (tmp_path / "launch.yaml").write_text(
        yaml.safe_dump({"launchers": launchers, "stages": stages})
    )
    return tmp_path


def execute(root: Path, stage: str) -> subprocess.CompletedProcess[str]:
    command = ["zreward", "--root", str(root), stage]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_job_writes_the_same_files_as_a_local_run(root: Path) -> None:
    done = execute(root, "world")
    assert done.returncode == 0, done.stderr
    made = contents(root / "data/world")
    (root / "launch.yaml").unlink()
    assert execute(root, "world").returncode == 0
    assert contents(root / "data/world") == made


def test_a_user_error_in_processes_of_a_job_is_shown_once(root: Path) -> None:
    done = execute(root, "label")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("data/candidates/pool.parquet not found") == 1


def test_a_signal_stops_the_job(root: Path, address: str) -> None:
    from ray.job_submission import JobSubmissionClient

    params = yaml.safe_load((root / "params.yaml").read_text())
    params["world"]["size"] = 200_000
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    client = JobSubmissionClient(address)
    before = {job.submission_id for job in client.list_jobs()}
    command = ["zreward", "--root", str(root), "world"]
    running = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while True:
        jobs = [job for job in client.list_jobs() if job.submission_id not in before]
        if jobs and jobs[0].status == "RUNNING":
            break
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert client.get_job_status(jobs[0].submission_id) == "STOPPED"
    assert not (root / "data/world").exists()
