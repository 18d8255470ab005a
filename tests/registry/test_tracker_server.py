"""Stages that share a tracker server, in a real MLflow store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel

from tests.registry.stores import place_store
from zreward_core.runtime import tracking
from zreward_core.runtime.tracking import SERVER_SOCKET, shared_tracker, tracked
from zreward_core.store import connect, experiment_id

HANG = """
import time
from pydantic import BaseModel
from zreward_core.runtime.tracking import tracked
class Config(BaseModel):
    seed: int = 4
with tracked("toy") as run:
    run.start(Config())
    time.sleep(600)
"""
HOLD = """
import os, time
from zreward_core.runtime.tracking import SERVER_SOCKET, shared_tracker
with shared_tracker():
    print(os.environ[SERVER_SOCKET], flush=True)
    time.sleep(600)
"""


class Config(BaseModel):
    seed: int


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("ZREWARD_TRACKING", raising=False)
    place_store(empty_store, tmp_path)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server; a tracker of the stage's own would fail."""
    monkeypatch.setattr(tracking, "TRACKER", "nowhere")
    with shared_tracker():
        wait_for(Path(os.environ[SERVER_SOCKET]).exists)
        yield


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs() -> list[tuple[str, str]]:
    client = connect()
    found = client.search_runs([experiment_id(client)], order_by=["start_time ASC"])
    return [(run.info.status, run.data.params.get("seed", "")) for run in found]


def test_the_server_tracks_one_stage_after_the_other(server: None) -> None:
    for seed in (1, 2):
        with tracked("toy") as run:
            run.start(Config(seed=seed))
    with pytest.raises(RuntimeError), tracked("toy") as run:
        run.start(Config(seed=3))
        raise RuntimeError("out of luck")
    assert runs() == [("FINISHED", "1"), ("FINISHED", "2"), ("FAILED", "3")]


def test_a_killed_stage_is_marked(server: None) -> None:
    stage = subprocess.Popen([sys.executable, "-c", HANG])
    record = Path(".zreward/runs/toy.json")
    wait_for(record.is_file)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    wait_for(lambda: json.loads(record.read_text())["ended_at"])
    assert runs() == [("KILLED", "4")]


def test_a_tracker_that_fails_is_reported(
    server: None, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / ".zreward/runs/toy.json").mkdir()
    with tracked("toy") as run:
        run.start(Config(seed=1))
    assert "the run of toy is not in MLflow (see .zreward/runs/toy.log)" in caplog.text
    wait_for(lambda: "Error" in (root / ".zreward/runs/toy.log").read_text())


def test_without_a_server_a_stage_starts_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_SOCKET, "nowhere")
    with tracked("toy") as run:
        run.start(Config(seed=1))
    assert runs() == [("FINISHED", "1")]


def test_the_server_ends_with_the_process_that_started_it() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    address = Path(holder.stdout.readline().strip())
    wait_for(address.exists)
    (server,) = psutil.Process(holder.pid).children()
    holder.kill()
    holder.wait()
    server.wait(timeout=120)
