"""The MLflow run of a whole pipeline run, in a real store."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.registry.stores import place_store
from zreward_core.registry.pipeline_runs import PIPELINE, PIPELINE_TAG, find_pipeline
from zreward_core.registry.tracker import LiveCurves, track
from zreward_core.runtime.progress import publish_sheet, write_history
from zreward_core.store import connect, experiment_id


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(PIPELINE, raising=False)
    place_store(empty_store, tmp_path)
    Path("params.yaml").write_text("seed: 5\nfirst: {rate: 0.5}\n")
    return tmp_path


def run_stage(monkeypatch: pytest.MonkeyPatch, stage: str, hpa: float, status: str) -> None:
    folder = Path("data") / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"test": {"hpa": hpa}}))
    rows = [{"step": 0, "loss/total": 1.0}, {"step": 5, "loss/total": hpa / 3}]
    write_history(rows, folder / "history.jsonl")
    stdin = type("Pipe", (), {"readline": lambda self: json.dumps({"status": status})})
    monkeypatch.setattr("sys.stdin", stdin())
    Path(".zreward/runs").mkdir(parents=True, exist_ok=True)
    track(connect(), stage, {"config": {"rate": 0.5}, "overlay": None}, ("abc", False))


def test_the_stages_of_a_pipeline_run_have_one_parent_with_all_results(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    for name, value in (("demo 1", 0.6), ("demo 2", 0.7)):
        monkeypatch.setenv(PIPELINE, name)
        run_stage(monkeypatch, "first", value, "FINISHED")
        run_stage(monkeypatch, "second", value / 2, "FINISHED" if name == "demo 1" else "FAILED")
    runs = client.search_runs([experiment_id(client)], order_by=["start_time ASC"])
    parents = {run.info.run_name: run for run in runs if PIPELINE_TAG in run.data.tags}
    assert list(parents) == ["demo 1", "demo 2"]
    for name, parent in parents.items():
        where = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        children = client.search_runs([experiment_id(client)], where)
        assert {run.info.run_name for run in children} == {"first", "second"}, name
        assert parent.data.params == {"seed": "5", "first.rate": "0.5"}
    metrics = [dict(parent.data.metrics) for parent in parents.values()]
    assert all(0 < one.pop("minutes") < 60 for one in metrics)
    second = {"second/test.hpa": 0.3, "second/loss.total": 0.3 / 3}
    assert metrics[0] == {"first/test.hpa": 0.6, "first/loss.total": 0.6 / 3, **second}
    assert metrics[1] == {"first/test.hpa": 0.7, "first/loss.total": 0.7 / 3}
    sections = {name.rpartition("/")[0] for run in runs for name in run.data.metrics}
    assert sections == {"", "first", "second"}, "MLflow's sections of charts; the parent has all"
    assert [run.info.status for run in parents.values()] == ["FINISHED", "FAILED"]
    assert find_pipeline(client) == parents["demo 2"].info.run_id


def test_a_stage_alone_has_no_parent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(monkeypatch, "first", 0.6, "FINISHED")
    client = connect()
    (run,) = client.search_runs([experiment_id(client)])
    assert "mlflow.parentRunId" not in run.data.tags and find_pipeline(client) is None


def test_sample_images_are_logged_by_step(root: Path) -> None:
    client = connect()
    run = client.create_run(experiment_id(client)).info.run_id
    live = LiveCurves(client, run, "tune")
    for step in (0, 20):
        publish_sheet("tune", step, Image.new("RGB", (16, 8)))
        live.log_images()
    names = [Path(one.path).name for one in client.list_artifacts(run, "images")]
    assert {int(name.split("+step+")[1].split("+")[0]) for name in names} == {0, 20}
    assert live.shown == {0, 20}
