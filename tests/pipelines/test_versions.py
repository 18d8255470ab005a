import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import AssetKey

from pipelines.promotion import JUDGED, RECORD, tags_with_inputs
from pipelines.versions import (
    CHAMPION,
    DATA_VERSION,
    INPUT_VERSION,
    PROMOTION,
    Recorded,
    all_keys,
    inputs_key,
    made_tags,
    missing_events,
)
from zreward_core.dvc import read_graph


def entry(out: str, *deps: tuple[str, str]) -> dict[str, Any]:
    return {
        "cmd": "x",
        "deps": [{"path": path, "md5": md5} for path, md5 in deps],
        "outs": [{"path": out, "md5": f"md5 of {out}"}],
    }


LOCK = {
    "first": entry("data/first", ("code/first.py", "1")),
    "left": entry("data/left.txt", ("code/left.py", "2"), ("data/first/left.txt", "3")),
}


def differences(root: Path, recorded: Mapping[AssetKey, Recorded], changes: dict[str, list[str]]):
    graph = read_graph(root)
    everything = {key: recorded.get(key, Recorded(None, {})) for key in all_keys(graph)}
    inputs, remade = missing_events(graph, LOCK, changes, everything)
    return {event.asset_key.path[-1]: event for event in inputs}, remade


def recorded_as_in_lock(root: Path) -> dict[AssetKey, Recorded]:
    graph = read_graph(root)
    nothing = {key: Recorded(None, {}) for key in all_keys(graph)}
    changes = {"right": ["changed outs"], "last": ["changed outs"]}
    inputs, remade = missing_events(graph, LOCK, changes, nothing)
    known = {e.asset_key: Recorded((e.tags or {})[DATA_VERSION], e.tags or {}) for e in inputs}
    for stage in remade:
        tags = made_tags(graph, stage, LOCK, promoted=False)
        known[AssetKey(stage)] = Recorded(tags[DATA_VERSION], tags)
    return known


def test_an_empty_instance_gets_all_of_the_lock(root: Path) -> None:
    inputs, remade = differences(root, {}, {"right": ["changed outs"], "last": ["changed outs"]})
    assert set(inputs) == {"first", "left", "right", "last"}
    assert remade == ["first", "left"]


def test_nothing_is_reported_twice(root: Path) -> None:
    changes = {"right": ["changed outs"], "last": ["changed outs"]}
    assert differences(root, recorded_as_in_lock(root), changes) == ({}, [])


def test_a_change_is_reported_for_the_whole_closure(root: Path) -> None:
    known = recorded_as_in_lock(root)
    changes = {"first": ["params"], "right": ["changed outs"], "last": ["changed outs"]}
    inputs, remade = differences(root, known, changes)
    assert remade == []
    assert {"first", "left"} <= set(inputs)
    before = known[inputs_key("left")].version
    assert (inputs["left"].tags or {})[DATA_VERSION] != before
    assert "first" in str(inputs["left"].metadata["state"].value)


def test_an_unchanged_stage_downstream_of_a_new_version_is_reported_again(root: Path) -> None:
    """The file it reads is the same, but the upstream stage as a whole has another version."""
    known = recorded_as_in_lock(root)
    newer = {**LOCK, "first": entry("data/first", ("code/first.py", "1"))}
    newer["first"]["outs"][0]["md5"] = "another"
    graph = read_graph(root)
    everything = {key: known.get(key, Recorded(None, {})) for key in all_keys(graph)}
    changes = {"right": ["changed outs"], "last": ["changed outs"]}
    assert missing_events(graph, newer, changes, everything)[1] == ["first", "left"]


def test_a_champion_made_before_its_promotion_was_recorded_is_not_reported_again() -> None:
    """Otherwise its page would show "outside Dagster" for a stage that a run has restored."""
    graph = read_graph(Path(__file__).parents[2])
    lock = {"champion": entry("data/champion", (CHAMPION, "moved"), ("data/train_risd", "1"))}
    tags = made_tags(graph, "champion", lock, promoted=True)
    recorded = {key: Recorded(None, {}) for key in all_keys(graph)}
    recorded[AssetKey("champion")] = Recorded(tags[DATA_VERSION], tags)
    for version in ("before", "moved"):
        recorded[PROMOTION] = Recorded(version, {})
        assert missing_events(graph, lock, {}, recorded)[1] == []
    assert tags[f"{INPUT_VERSION}/promotion"] == "moved"


def test_a_promotion_in_a_shell_has_the_inputs_of_the_lock_unless_they_are_newer(
    tmp_path: Path,
) -> None:
    for name in JUDGED:
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "reports").mkdir()
    (tmp_path / RECORD).write_text("{}")
    (tmp_path / CHAMPION).write_text("source: trained")
    lock = {name: {"outs": [{"md5": f"md5 of {name}"}]} for name in JUDGED}
    tags = tags_with_inputs(tmp_path, lock, {})
    assert {tags[f"{INPUT_VERSION}/{name}"] for name in JUDGED} == {
        "md5 of train_risd", "md5 of evaluate"
    }  # fmt: skip
    later = (tmp_path / RECORD).stat().st_mtime + 10
    os.utime(tmp_path / "data/train_risd", (later, later))
    tags = tags_with_inputs(tmp_path, lock, {AssetKey("train_risd"): Recorded("older", {})})
    assert tags[f"{INPUT_VERSION}/train_risd"] == "older"
