"""Runs of a toy stage, started by real DVC, in a real MLflow store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run

from tests.registry.stores import place_store
from zreward_core.dvc import md5s, read_lock
from zreward_core.registry import tracker
from zreward_core.registry.sync import sync
from zreward_core.registry.tracker import (
    TRACKER_TAG,
    LiveCurves,
    close_orphaned_run,
    inputs,
    log_results,
)
from zreward_core.runtime.progress import publish, write_history
from zreward_core.store import connect, experiment_id

TOY = """
import pathlib, sys, time
from pydantic import BaseModel
from zreward_core.runtime.tracking import tracked

class Config(BaseModel):
    seed: int = 5
    sizes: dict = {"width": 3, "note": "x" * 7000}

with tracked("toy") as run:
    run.start(Config())
    mode = pathlib.Path("mode").read_text()
    if mode == "fail":
        raise RuntimeError("out of luck")
    if mode == "hang":
        print("hanging", flush=True)
        time.sleep(60)
    out = pathlib.Path("data/toy")
    out.mkdir(parents=True)
    (out / "text.txt").write_text(pathlib.Path("inputs/a.txt").read_text())
    (out / "history.jsonl").write_text('{"step": 0, "loss": 2.0}\\n{"step": 5, "loss": 1.0}\\n')
    (out / "metrics.json").write_text('{"share = all": 0.5, "table": {"overall": {"hpa": 0.7}}}')
"""
GRAPH = {
    "stages": {
        "toy": {
            "cmd": f"{sys.executable} toy.py",
            "deps": ["inputs", "toy.py"],
            "params": ["seed", "toy"],
            "outs": ["data/toy"],
        }
    }
}
DVC = Path(sys.executable).with_name("dvc")


def dvc(*arguments: str) -> str:
    done = subprocess.run([DVC, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZREWARD_DAGSTER_RUN_ID", "d-17")
    place_store(empty_store, tmp_path)
    Path("toy.py").write_text(TOY)
    Path("mode").write_text("work")
    Path("inputs/__pycache__").mkdir(parents=True)
    Path("inputs/a.txt").write_text("first")
    Path("inputs/__pycache__/x.pyc").write_text("not counted")
    Path(".dvcignore").write_text("__pycache__\n")
    Path("dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    Path("params.yaml").write_text(
        "seed: 5\ntoy: {rate: 1.0e-4, small: 5.0e-5, tiny: 2e-6}\nother: 1\n"
    )
    dvc("init", "--no-scm", "--quiet")
    return tmp_path


def runs() -> list[Run]:
    client = connect()
    return list(client.search_runs([experiment_id(client)], order_by=["start_time ASC"]))


def last_run() -> dict:
    return json.loads(Path(".zreward/runs/toy.json").read_text())


def test_a_stage_outside_dvc_yaml_has_no_fingerprint(root: Path) -> None:
    assert inputs("another", None) == ({}, {})
    assert set(inputs("toy", None)[1]) == {"seed", "toy"}


def test_curves_reach_mlflow_while_a_stage_runs(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "LIVE_SECONDS", 0.1)
    client = connect()
    run = client.create_run(experiment_id(client)).info.run_id
    rows = [{"step": 0, "loss": 2.0}, {"step": 5, "loss": 1.0}, {"step": 9, "loss": 0.5}]

    def logged() -> list[dict]:
        found = client.get_metric_history(run, "toy/loss")
        return [{"step": one.step, "loss": one.value} for one in found]

    with LiveCurves(client, run, "toy") as live:
        for number in (1, 2):
            publish("toy", rows[number - 1 : number], anew=number == 1)
            deadline = time.monotonic() + 60
            while logged() != rows[:number]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    Path("data/toy").mkdir(parents=True)
    write_history(rows, Path("data/toy/history.jsonl"))
    log_results(client, run, "toy", live.logged)
    assert logged() == rows


def test_the_page_of_the_items_is_logged_with_the_evaluation(root: Path) -> None:
    client = connect()
    run = client.create_run(experiment_id(client)).info.run_id
    page = Path("reports/viewer/viewer.html")
    page.parent.mkdir(parents=True)
    page.write_text("<p>items")
    for stage, logged in (("toy", []), ("evaluate", ["viewer.html"])):
        log_results(client, run, stage, [])
        assert [one.path for one in client.list_artifacts(run)] == logged


def test_a_run_logs_the_inputs_and_sync_finds_it(root: Path) -> None:
    dvc("repro", "--quiet")
    (run,) = runs()
    assert (run.info.run_name, run.info.status) == ("toy", "FINISHED")
    digests = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert digests == md5s(read_lock()["toy"], "deps")
    assert run.data.params["seed"] == "5" and run.data.params["sizes.width"] == "3"
    metrics = dict(run.data.metrics)
    assert 0 < metrics.pop("minutes") < 60
    assert metrics == {"toy/loss": 1.0, "toy/share _ all": 0.5, "toy/table.hpa": 0.7}
    client = connect()
    history = client.get_metric_history(run.info.run_id, "toy/loss")
    assert [(one.step, one.value) for one in history] == [(0, 2.0), (5, 1.0)]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"metrics.json"}
    assert run.data.tags["dagster_run_id"] == "d-17" and "dagster_url" not in run.data.tags
    record = last_run()
    assert record["tracker"] == run.data.tags[TRACKER_TAG]
    assert record["run_id"] == run.info.run_id
    assert record["experiment_id"] == run.info.experiment_id  # for links in Dagster
    assert record["ended_at"] >= record["started_at"]

    (found,) = sync()
    assert found == ("toy", run.info.run_id, "tagged")
    outs = json.loads(client.get_run(run.info.run_id).data.tags["zreward.outs"])
    assert outs == md5s(read_lock()["toy"], "outs")
    (again,) = sync()
    assert again.outcome == "known"

    Path("inputs/a.txt").write_text("second")
    dvc("repro", "--quiet")
    (other,) = sync()
    assert other.outcome == "tagged" and other.run_id != run.info.run_id
    Path("inputs/a.txt").write_text("first")
    dvc("repro", "--quiet")  # restored from DVC's cache: no new run, the first is found
    assert len(runs()) == 2
    (restored,) = sync()
    assert restored == ("toy", run.info.run_id, "known")


def test_status_of_a_stage_that_raises_and_of_a_killed_one(root: Path) -> None:
    Path("mode").write_text("fail")
    failed = subprocess.run([sys.executable, "toy.py"], capture_output=True, text=True)
    assert failed.returncode == 1 and "RuntimeError: out of luck" in failed.stderr
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == "RuntimeError: out of luck"

    Path("mode").write_text("hang")
    hanging = subprocess.Popen([sys.executable, "toy.py"], start_new_session=True)
    wait_for(lambda: len(runs()) == 2 and runs()[1].info.status == "RUNNING")
    os.killpg(hanging.pid, signal.SIGTERM)
    hanging.wait()
    wait_for(lambda: runs()[1].info.status == "KILLED")


def test_a_run_whose_tracker_was_killed_is_closed_by_the_next(root: Path) -> None:
    Path("mode").write_text("hang")
    hanging = subprocess.Popen([sys.executable, "toy.py"], start_new_session=True)
    wait_for(lambda: [run.info.status for run in runs()] == ["RUNNING"])
    os.killpg(hanging.pid, signal.SIGKILL)
    hanging.wait()
    assert runs()[0].info.status == "RUNNING"
    Path("mode").write_text("work")
    subprocess.run([sys.executable, "toy.py"], check=True)
    assert [run.info.status for run in runs()] == ["KILLED", "FINISHED"]


def test_a_run_whose_tracker_was_killed_before_it_knew_the_id_is_closed(root: Path) -> None:
    client = connect()
    run_id = client.create_run(experiment_id(client), tags={TRACKER_TAG: "one"}).info.run_id
    Path(".zreward/runs").mkdir(parents=True)
    record = {"tracker": "one", "pid": 2**31 - 1, "parent_id": None, "ended_at": None}
    Path(".zreward/runs/toy.json").write_text(json.dumps(record))
    close_orphaned_run(client, "toy")
    assert client.get_run(run_id).info.status == "KILLED"


def test_an_error_in_mlflow_does_not_affect_the_outputs(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    done = subprocess.run([sys.executable, "toy.py"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "not in MLflow" in done.stderr and ".zreward/runs/toy.log" in done.stderr
    assert Path("data/toy/text.txt").read_text() == "first"


def test_a_stage_without_a_valid_config_makes_no_run(root: Path) -> None:
    Path("toy.py").write_text(TOY.replace("run.start(Config())", "raise ValueError('params')"))
    done = subprocess.run([sys.executable, "toy.py"], capture_output=True, text=True)
    assert "ValueError: params" in done.stderr and "MLflow" not in done.stderr
    assert runs() == []


def test_tracking_can_be_disabled(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("ZREWARD_TRACKING", "off")
    subprocess.run([sys.executable, "toy.py"], check=True)
    assert runs() == [] and not Path(".zreward/runs").exists()


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
