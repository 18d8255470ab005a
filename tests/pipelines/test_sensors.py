import json
import os
import time
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    SensorResult,
    SkipReason,
    build_sensor_context,
)

from pipelines.definitions import build_definitions
from pipelines.dvc_state import busy_with
from pipelines.sensors import champion_moved, dvc_sync
from pipelines.sync import signature
from tests.commands.promotion_root import finished_root, two_champions
from tests.commands.promotion_root import root as registered
from tests.pipelines import tiny
from tests.registry.stores import empty_store
from zreward_core.config import read_yaml
from zreward_core.dvc import read_graph
from zreward_core.store import ALIAS, MODEL, connect

__all__ = ["empty_store", "finished_root", "registered"]  # fixtures
CHAMPION_FILE = Path("data/champion.yaml")
ROOT = Path(__file__).parents[2]


def test_sync_reports_once_and_skips_until_something_changes(
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


def test_stages_of_a_shell_are_a_run_with_their_own_times(
    root: Path, instance: DagsterInstance
) -> None:
    tiny.dvc(root, "repro")
    ended = time.time() - 100
    for stage, start in (("first", ended - 60), ("last", ended - 20)):
        path = root / f".zreward/times/{stage}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        times = {"started": start, "ended": ended if stage == "last" else start + 5}
        path.write_text(json.dumps(times))
    repository = build_definitions(root).get_repository_def()
    sensor = dvc_sync(read_graph(root), root)
    context = build_sensor_context(instance=instance, repository_def=repository)
    found = sensor(context)
    (record,) = instance.get_run_records()
    assert record.dagster_run.status == DagsterRunStatus.SUCCESS
    assert record.start_time == pytest.approx(ended - 60, abs=0.01)
    assert record.end_time == pytest.approx(ended, abs=0.01)
    made = instance.get_latest_materialization_event(AssetKey("last"))
    assert made is not None and made.run_id == record.dagster_run.run_id
    assert isinstance(found, SensorResult)
    others = {event.asset_key.to_user_string() for event in found.asset_events}
    assert {"left", "right"} <= others and not {"first", "last"} & others
    for event in found.asset_events:
        instance.report_runless_asset_event(event)
    (root / "data/last.txt").touch()  # the sensor looks again
    again = sensor(build_sensor_context(instance=instance, repository_def=repository))
    assert isinstance(again, SensorResult) and not again.asset_events
    assert len(instance.get_run_records()) == 1
    tiny.assert_agreement(instance, root)


def test_stages_of_a_run_in_progress_are_left_to_it(root: Path, instance: DagsterInstance) -> None:
    """DVC has ended `last`; the run that started it has not recorded it yet."""
    tiny.dvc(root, "repro")
    repository = build_definitions(root).get_repository_def()
    run = instance.create_run_for_job(
        repository.get_job("everything"),
        asset_selection={AssetKey("last")},
        status=DagsterRunStatus.STARTED,
    )
    sensor = dvc_sync(read_graph(root), root)

    def reported(cursor: str | None) -> tuple[set[str], str | None]:
        context = build_sensor_context(instance=instance, repository_def=repository, cursor=cursor)
        result = sensor(context)
        assert isinstance(result, SensorResult)
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
        return {event.asset_key.to_user_string() for event in result.asset_events}, result.cursor

    during, cursor = reported(None)
    assert "left" in during and "last" not in during
    instance.report_run_failed(run, "its process was killed before it recorded the stage")
    after, cursor = reported(cursor)  # the sensor looks again, although no file has changed
    assert after == {"last"} and cursor
    tiny.assert_agreement(instance, root)


def test_sync_skips_while_a_stage_runs(root: Path, instance: DagsterInstance) -> None:
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    rwlock = root / ".dvc/tmp/rwlock"
    rwlock.write_text(
        f'{{"write": {{"{root}/data/first": {{"pid": {os.getpid()}, "cmd": "dvc"}}}}}}'
    )
    assert busy_with(root) == f"stage first, run by `dvc` (pid {os.getpid()})"
    skipped = dvc_sync(read_graph(root), root)(build_sensor_context(instance=instance))
    assert isinstance(skipped, SkipReason)
    rwlock.write_text('{"write": {"data/first": {"pid": 99999999, "cmd": "dvc"}}}')
    assert busy_with(root) == ""


def test_a_moved_alias_starts_the_generator_once(
    registered: Path, instance: DagsterInstance
) -> None:
    """`zreward adopt` on a registry with two versions, after the alias was moved by hand."""
    sensor = champion_moved(read_graph(ROOT), registered)

    def tick(cursor: str | None) -> SensorResult | SkipReason:
        return sensor(build_sensor_context(instance=instance, cursor=cursor))

    first, _ = two_champions()
    seen = tick(None)
    assert not seen.run_requests  # moved by `zreward promote`, not by hand
    assert isinstance(tick(seen.cursor), SkipReason)
    client = connect()
    client.set_registered_model_alias(MODEL, ALIAS, "1")
    moved = tick(seen.cursor)
    (request,) = moved.run_requests
    assert {key.to_user_string() for key in request.asset_selection} == {
        "champion", "finetune_generator", "evaluate_gsb"
    }  # fmt: skip
    assert read_yaml(CHAMPION_FILE) == {"source": f"models:/{MODEL}/1", "sha256": first}
    assert isinstance(tick(moved.cursor), SkipReason)
    client.set_registered_model_alias(MODEL, ALIAS, "2")
    back = tick(moved.cursor)
    assert back.run_requests[0].run_key != request.run_key
    assert read_yaml(CHAMPION_FILE) == {"source": "trained"}


def test_nothing_registered_starts_nothing(tmp_path: Path, instance: DagsterInstance) -> None:
    sensor = champion_moved(read_graph(ROOT), tmp_path)
    assert isinstance(sensor(build_sensor_context(instance=instance)), SkipReason)
