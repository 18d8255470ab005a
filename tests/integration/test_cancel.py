"""A cancelled or killed Dagster run leaves no process of its stage."""

import signal
import sys
import time
from pathlib import Path

import pytest

from tests.pipelines import tiny


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_stage_ends_with_its_run(tmp_path: Path, number: int) -> None:
    root = tiny.make(tmp_path / "project")
    run = tiny.start_first(root, tmp_path / "dagster")
    run.send_signal(number)
    run.wait(timeout=60)
    deadline = time.monotonic() + 60
    while tiny.first_processes(root):
        assert time.monotonic() < deadline, tiny.first_processes(root)
        time.sleep(0.1)
    tiny.set_param(root, "first", "seconds", 0)
    done = tiny.execute(root, str(Path(sys.executable).with_name("zreward")), "repro", "first")
    assert done.returncode == 0, done.stderr
