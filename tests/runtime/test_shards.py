"""Shards are claimed; that of a worker which dies is computed by another."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zreward_core.config import Settings
from zreward_core.runtime import progress
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.shards import compute_shards

ROOT = Path(__file__).parents[2]
SCHEMA = pa.schema([("item", pa.int64()), ("worker", pa.string())])
FOLDER = Path("shards")


def work(worker: str, sleep_at: int | None = None) -> list[Path]:
    """Shards of 10 items in threes; a worker may fall asleep within a shard."""
    checkpoint = Checkpoint("toy", Settings(), [])
    checkpoint.folder = FOLDER  # its key depends on the loaded modules
    FOLDER.mkdir(exist_ok=True)

    def compute(part: slice) -> pd.DataFrame:
        if part.start == sleep_at:
            Path("asleep").touch()
            time.sleep(600)
        items = range(part.start, part.stop)
        return pd.DataFrame({"item": items, "worker": worker})

    return compute_shards(checkpoint, "part", 10, 3, SCHEMA, compute)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_shards_are_computed_once_and_hold_all_items() -> None:
    paths = work("first")
    before = [path.stat().st_mtime_ns for path in paths]
    assert [row for path in paths for row in pq.read_table(path)["item"].to_pylist()] == [
        *range(10)
    ]
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:-5])  # a power failure
    assert work("second") == paths
    assert [pq.read_table(path)["worker"][0].as_py() for path in paths] == [
        "first",
        "second",
        "second",
        "first",
    ]
    after = [path.stat().st_mtime_ns for path in paths]
    assert after[0] == before[0] and after[3] == before[3]
    assert list(FOLDER.glob("*.torn")) and not list(FOLDER.glob("*.partial*"))


@pytest.mark.timeout(400)
def test_the_shard_of_a_worker_that_dies_is_computed_by_another() -> None:
    code = "from tests.runtime.test_shards import work; work('dies', sleep_at=0)"
    dying = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        while not Path("asleep").exists():
            assert dying.poll() is None
            time.sleep(0.05)
        seen: list[bool] = []

        def kill() -> None:
            while sum(1 for _ in FOLDER.glob("part*.parquet")) < 3:
                time.sleep(0.05)
            time.sleep(1.0)  # the survivor waits for the first shard, without computing it
            seen.append((FOLDER / "part00000.parquet").exists())
            dying.kill()

        threading.Thread(target=kill, daemon=True).start()
        paths = work("survives")
        assert seen == [False]
        found = pd.concat([pd.read_parquet(path) for path in paths])
        assert found["item"].tolist() == [*range(10)]
        assert set(found["worker"]) == {"survives"}
    finally:
        dying.kill()
        dying.wait()


def test_a_worker_ends_when_the_main_process_has_cleared_the_shards(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    checkpoint = Checkpoint.__new__(Checkpoint)
    checkpoint.stage, checkpoint.folder = "toy", Path("none")
    paths = compute_shards(checkpoint, "part", 10, 3, SCHEMA, lambda part: pytest.fail("computed"))
    assert len(paths) == 4 and not Path("none").exists()


def test_the_bar_counts_the_items_of_all_workers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    checkpoint = Checkpoint("toy", Settings(), [])

    def compute(part: slice) -> pd.DataFrame:
        items = range(part.start, part.stop)
        rows = pd.DataFrame({"item": items, "worker": "this"})
        if part.start == 0:
            for index, number in ((2, 3), (3, 1)):
                other = pd.DataFrame({"item": range(number), "worker": "other"})
                checkpoint.save_table(f"part{index:05d}", other, SCHEMA)
        return rows

    compute_shards(checkpoint, "part", 10, 3, SCHEMA, compute, "images of generator 1")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("images of generator 1: ") for line in lines)
    shown = [line.split("[")[0].split()[-1] for line in lines]
    assert shown[0] == "0/10" and "7/10" in shown and shown[-1] == "10/10"
    compute_shards(checkpoint, "part", 10, 3, SCHEMA, lambda part: pytest.fail("computed"))
    assert "10/10" in capsys.readouterr().err.splitlines()[-1]
