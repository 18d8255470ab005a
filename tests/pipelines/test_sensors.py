import os
import sys
from pathlib import Path

from dagster import DagsterInstance, SensorResult, SkipReason, build_sensor_context

from pipelines.dvc_state import busy_with
from pipelines.graph import read_graph
from pipelines.sensors import champion_moved, dvc_sync
from pipelines.sync import signature
from tests.pipelines import tiny

ROOT = Path(__file__).parents[2]


def test_sync_tells_once_and_sleeps_until_something_changes(
    root: Path, instance: DagsterInstance
) -> None:
    tiny.dvc(root, "repro")
    graph = read_graph(root)
    sensor = dvc_sync(graph, root)
    first = sensor(build_sensor_context(instance=instance))
    assert isinstance(first, SensorResult) and first.asset_events
    again = sensor(build_sensor_context(instance=instance, cursor=first.cursor))
    assert isinstance(again, SkipReason)
    tiny.set_param(root, "right", None, 2)
    assert signature(graph, root) != first.cursor


def test_sync_awaits_the_end_of_a_running_stage(root: Path, instance: DagsterInstance) -> None:
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    rwlock = root / ".dvc/tmp/rwlock"
    rwlock.write_text(
        f'{{"write": {{"{root}/data/first": {{"pid": {os.getpid()}, "cmd": "dvc"}}}}}}'
    )
    assert "data/first" in busy_with(root)
    skipped = dvc_sync(read_graph(root), root)(build_sensor_context(instance=instance))
    assert isinstance(skipped, SkipReason)
    rwlock.write_text('{"write": {"data/first": {"pid": 99999999, "cmd": "dvc"}}}')
    assert busy_with(root) == ""


def test_a_moved_alias_starts_the_generator_once(tmp_path: Path, instance: DagsterInstance) -> None:
    """The answer of `zreward adopt` is a file here; the registry's own tests cover the rest."""
    answer = tmp_path / "answer.json"
    code = f"print(open({str(answer)!r}).read())"
    sensor = champion_moved(read_graph(ROOT), tmp_path, adopt=[sys.executable, "-c", code])

    def tick(cursor: str | None):
        return sensor(build_sensor_context(instance=instance, cursor=cursor))

    assert isinstance(tick(None), SkipReason)
    database = tmp_path / ".zreward/mlflow.db"
    database.parent.mkdir()
    database.write_text("1")
    answer.write_text('{"changed": false, "version": 1, "source": "trained"}')
    seen = tick(None)
    assert not seen.run_requests
    assert isinstance(tick(seen.cursor), SkipReason)
    database.write_text("12")
    answer.write_text('{"changed": true, "version": 2, "source": "models:/zreward-student/2"}')
    moved = tick(seen.cursor)
    (request,) = moved.run_requests
    assert {key.to_user_string() for key in request.asset_selection} == {
        "champion", "finetune_generator", "evaluate_gsb"
    }  # fmt: skip
    assert isinstance(tick(moved.cursor), SkipReason)
    database.write_text("123")
    back = tick(moved.cursor)
    assert back.run_requests[0].run_key != request.run_key
