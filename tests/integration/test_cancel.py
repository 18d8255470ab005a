"""A Dagster run that is cancelled, or whose process is killed, leaves no stage behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.pipelines import tiny

ROOT = Path(__file__).parents[2]
WAIT = 240


def stage_processes(root: Path) -> list[psutil.Process]:
    """What runs the stage `first` of a project, from the shell to the code."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] == str(root) and ("code/first.py" in line or "/dvc " in line):
            found.append(process)
    return found


def wait_for_stage(root: Path) -> None:
    deadline = time.monotonic() + WAIT
    while not any("code/first.py" in " ".join(p.cmdline()) for p in stage_processes(root)):
        assert time.monotonic() < deadline, "the stage does not start"
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_stage_ends_with_its_run(tmp_path: Path, number: int) -> None:
    root = tiny.make(tmp_path / "project")
    tiny.set_param(root, "first", "seconds", 600)
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    run = subprocess.Popen(
        [str(tiny.BIN / "dagster"), "asset", "materialize", "--select", "first",
         "-m", "pipelines.definitions"],
        cwd=root, env=os.environ | {"DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    wait_for_stage(root)
    run.send_signal(number)
    run.wait(timeout=60)
    deadline = time.monotonic() + 60
    while stage_processes(root):
        assert time.monotonic() < deadline, stage_processes(root)
        time.sleep(0.1)
    tiny.set_param(root, "first", "seconds", 0)
    done = tiny.execute(root, str(Path(sys.executable).with_name("zreward")), "repro", "first")
    assert done.returncode == 0, done.stderr
