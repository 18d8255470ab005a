"""`zreward STAGE` on two Ray nodes, by a job that starts Ray Train: stages train and label as two
processes do, and go on after a death.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
import yaml

pytest.importorskip("ray", reason="Ray is not installed: pip install 'zreward[ray]'")
from tests.runtime.test_launch_ray import ENVIRONMENT, address
from tests.stages.training_root import tiny, trainable_root
from zreward_core.schemas import file_hashes

__all__ = ["address", "trainable_root"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
STEPS = 60
PARAMS = {
    "seed": 1,
    "train_risd": {
        "steps": STEPS,
        "batch_size": 4,
        "micro_batch_size": 2,
        "checkpoint_every": 3,
        "learning_rate": 0.001,
    },
    "label": {"num_traces": 64, "batch_size": 1, "shard_items": 1},
}


@pytest.fixture
def root(tmp_path: Path, trainable_root: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(trainable_root, root)
    tiny(7).save(root / "data/train_gdso/teacher", {})
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return root


def start(root: Path, address: str, stage: str, launcher: str, **fsdp: dict) -> subprocess.Popen:
    """Run a stage on the nodes of the cluster, or without Ray on two processes."""
    common = {"kind": "accelerate", "threads": 1, "cpu": True, **fsdp}
    launchers = {
        "nodes": {"kind": "ray", "address": address, "nodes": 2, "inside": "one"},
        "one": {"processes": 1, **common},
        "two": {"processes": 2, **common},
    }
    content = {"launchers": launchers, "stages": {stage: launcher}}
    (root / "launch.yaml").write_text(yaml.safe_dump(content))
    with (root / "log.txt").open("w") as log:
        return subprocess.Popen(
            ["zreward", "--root", str(root), stage],
            env=os.environ | ENVIRONMENT,
            stdout=log,
            stderr=log,
        )


def run_and_kill(
    root: Path, address: str, stage: str, progress: Callable[[], int], at: int
) -> list[int]:
    """Run a stage and kill one of its two workers; returns the progress before and after."""
    seen: list[int] = []
    killed: list[psutil.Process] = []
    running = start(root, address, stage, "nodes")
    while running.poll() is None:
        seen.append(progress())
        if seen[-1] >= at and not killed:
            killed = workers(root)
            killed[-1].send_signal(signal.SIGKILL)
        time.sleep(0.05)
    log = (root / "log.txt").read_text()[-8000:]
    assert running.returncode == 0, log
    assert len(killed) == 2, log
    return [one for one in seen if one]  # none once the output is complete


def workers(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith("ray::") and process.info["cwd"] == str(root):
            found.append(process)
    return found


def as_two_processes(root: Path, address: str, stage: str, **fsdp: dict) -> dict[str, str]:
    """The stage's output on two processes without Ray."""
    shutil.rmtree(root / "data" / stage)
    assert start(root, address, stage, "two", **fsdp).wait() == 0, (root / "log.txt").read_text()
    return file_hashes(root / "data" / stage)


def test_training_continues_from_the_last_checkpoint(root: Path, address: str) -> None:
    def progress() -> int:
        for path in root.glob(".zreward/checkpoints/train_risd/*/state.pt"):
            with suppress(FileNotFoundError):  # removed since
                return torch.load(path, weights_only=True)["step"]
        return 0

    seen = run_and_kill(root, address, "train_risd", progress, 6)
    assert seen == sorted(seen) and seen[-1] > 12
    found = file_hashes(root / "data/train_risd")
    assert as_two_processes(root, address, "train_risd") == found


def test_a_sharded_model_is_trained_on_the_nodes(root: Path, address: str) -> None:
    short = PARAMS | {"train_risd": PARAMS["train_risd"] | {"steps": 4}}
    (root / "params.yaml").write_text(yaml.safe_dump(short))
    code = start(root, address, "train_risd", "nodes", fsdp={}).wait()
    assert code == 0, (root / "log.txt").read_text()[-8000:]
    found = file_hashes(root / "data/train_risd")
    assert as_two_processes(root, address, "train_risd", fsdp={}) == found


def test_labelling_continues_with_the_missing_shards(root: Path, address: str) -> None:
    written: dict[Path, set[int]] = {}

    def progress() -> int:
        found = list(root.glob(".zreward/checkpoints/label/*/label*.parquet"))
        for path in found:
            with suppress(FileNotFoundError):
                written.setdefault(path, set()).add(path.stat().st_mtime_ns)
        return len(found)

    seen = run_and_kill(root, address, "label", progress, 2)
    assert seen == sorted(seen) and seen[0] < 8
    assert all(len(times) == 1 for times in written.values())
    found = file_hashes(root / "data/label")
    assert as_two_processes(root, address, "label") == found


def test_a_user_error_of_the_workers_is_that_of_the_job(root: Path, address: str) -> None:
    (root / "data/candidates/pool.parquet").unlink()
    assert start(root, address, "label", "nodes").wait() == 2
    last = (root / "log.txt").read_text().splitlines()[-1]
    assert last.startswith("error: ") and "data/candidates/pool.parquet not found" in last
