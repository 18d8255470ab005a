"""Stages on two Ray nodes: they train and label as two processes do, and go on after a death."""

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
from tests.runtime.test_launch_ray import ENVIRONMENT, address, execute
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
def root(tmp_path: Path, trainable_root: Path, address: str) -> Path:
    root = tmp_path / "root"
    shutil.copytree(trainable_root, root)
    tiny(7).save(root / "data/train_gdso/teacher", {})
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return root


def assign(root: Path, address: str, launcher: str) -> None:
    launchers = {
        "nodes": {"kind": "ray", "address": address, "nodes": 2, "inside": "one"},
        "one": {"kind": "accelerate", "processes": 1, "threads": 1, "cpu": True},
        "two": {"kind": "accelerate", "processes": 2, "threads": 1, "cpu": True},
    }
    stages = {"train_risd": launcher, "label": launcher}
    content = {"launchers": launchers, "stages": stages}
    (root / "launch.yaml").write_text(yaml.safe_dump(content))


def run_and_kill(root: Path, stage: str, progress: Callable[[], int], at: int) -> list[int]:
    """Run a stage and kill one of its two workers; returns the progress before and after."""
    log, seen, killed = root / "log.txt", [], []
    with log.open("w") as file:
        command = ["zreward", "--root", str(root), stage]
        running = subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file)
    while running.poll() is None:
        seen.append(progress())
        if seen[-1] >= at and not killed:
            killed = workers(root)
            killed[-1].send_signal(signal.SIGKILL)
        time.sleep(0.05)
    assert running.returncode == 0, log.read_text()[-8000:]
    assert len(killed) == 2, log.read_text()[-8000:]
    return [one for one in seen if one]  # none once the output is complete


def workers(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith("ray::") and process.info["cwd"] == str(root):
            found.append(process)
    return found


def as_two_processes(root: Path, address: str, stage: str) -> dict[str, str]:
    """The stage's output on two processes without Ray."""
    shutil.rmtree(root / "data" / stage)
    assign(root, address, "two")
    done = execute(root, stage)
    assert done.returncode == 0, done.stderr
    return file_hashes(root / "data" / stage)


def test_training_continues_from_the_last_checkpoint(root: Path, address: str) -> None:
    def progress() -> int:
        for path in root.glob(".zreward/checkpoints/train_risd/*/state.pt"):
            with suppress(FileNotFoundError):  # removed since
                return torch.load(path, weights_only=True)["step"]
        return 0

    assign(root, address, "nodes")
    seen = run_and_kill(root, "train_risd", progress, 6)
    assert seen == sorted(seen) and seen[-1] > 12
    found = file_hashes(root / "data/train_risd")
    assert as_two_processes(root, address, "train_risd") == found


def test_labelling_continues_with_the_missing_shards(root: Path, address: str) -> None:
    written: dict[Path, set[int]] = {}

    def progress() -> int:
        found = list(root.glob(".zreward/checkpoints/label/*/label*.parquet"))
        for path in found:
            with suppress(FileNotFoundError):
                written.setdefault(path, set()).add(path.stat().st_mtime_ns)
        return len(found)

    assign(root, address, "nodes")
    seen = run_and_kill(root, "label", progress, 2)
    assert seen == sorted(seen) and seen[0] < 8
    assert all(len(times) == 1 for times in written.values())
    found = file_hashes(root / "data/label")
    assert as_two_processes(root, address, "label") == found


def test_a_user_error_is_shown_once(root: Path, address: str) -> None:
    assign(root, address, "nodes")
    (root / "data/candidates/pool.parquet").unlink()
    done = execute(root, "label")
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "data/candidates/pool.parquet not found" in last
