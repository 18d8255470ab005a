"""Stages started by torchrun join its group, as processes of a launcher do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.stages.training_root import trainable_root
from zreward_core.commands.stage_times import TIMES
from zreward_core.dvc import STAGE_LOCKS
from zreward_core.schemas import file_hashes

__all__ = ["trainable_root"]
pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
TRAIN = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.001}
LAUNCHERS = {"two": {"kind": "accelerate", "processes": 2, "threads": 1, "cpu": True}}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]


@pytest.fixture
def root(trainable_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(trainable_root, root)
    params = {"seed": 1, "train_risd": TRAIN, "trace_faithfulness": {}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    content = {"launchers": LAUNCHERS, "stages": {"train_risd": "two"}}
    (root / "launch.yaml").write_text(yaml.safe_dump(content))
    return root


def execute(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZREWARD_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    whole = [sys.executable, *command[:-1], "zreward_core", "--root", str(root), command[-1]]
    return subprocess.run(whole, env=environment, capture_output=True, text=True)


def test_two_processes_write_what_the_launcher_s_do(root: Path) -> None:
    done = execute(root, *TORCHRUN, "train_risd")
    assert done.returncode == 0, done.stderr
    assert (root / STAGE_LOCKS / "train_risd").is_file()
    assert (root / TIMES / "train_risd.json").is_file()
    found = file_hashes(root / "data/train_risd")
    shutil.rmtree(root / "data/train_risd")
    done = execute(root, "-m", "train_risd")
    assert done.returncode == 0, done.stderr
    assert file_hashes(root / "data/train_risd") == found


def test_a_stage_of_one_process_is_refused(root: Path) -> None:
    done = execute(root, *TORCHRUN, "trace_faithfulness")
    assert done.returncode != 0
    assert "error: RANK and WORLD_SIZE are set: the stage trace_faithfulness runs in one" in (
        done.stderr
    )
