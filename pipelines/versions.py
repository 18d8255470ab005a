"""Dagster's view of a workspace as DVC knows it, and the events that bring Dagster to it.

Dagster calls an asset stale where the version of something it depends on is not the one recorded
when it was made, and does not look further up. So each stage has an external asset
``inputs/STAGE`` beside it: code, params and files that no stage makes. (Dagster reads versions of
external assets from reported materializations, not from observations.) Its version is the one in
dvc.lock while the stage is up to date, and another as long as the stage is in the downstream
closure of `dvc status`. With this, stale in Dagster is that closure, whoever ran what.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagster import AssetKey, AssetMaterialization, DagsterInstance

from pipelines.dvc_state import Changes, Lock, inputs_version, outs_version
from pipelines.graph import Graph, ancestors, closure

DATA_VERSION = "dagster/data_version"
USER_PROVIDED = "dagster/data_version_is_user_provided"
CODE_VERSION = "dagster/code_version"
INPUT_VERSION = "dagster/input_data_version"
INPUT_POINTER = "dagster/input_event_pointer"
PROMOTION = AssetKey("promotion")
CHAMPION = "data/champion.yaml"
"""What a promotion makes; its md5 is the promotion's version, here as in dvc.lock."""


class Recorded(NamedTuple):
    """What Dagster's newest materialization of an asset says."""

    version: str | None
    tags: Mapping[str, str]


def inputs_key(stage: str) -> AssetKey:
    """The external asset that stands for a stage's code, params and own files."""
    return AssetKey(["inputs", stage])


def parents(graph: Graph, stage: str) -> list[AssetKey]:
    """What a stage's asset depends on."""
    keys = [inputs_key(stage), *(AssetKey(name) for name in graph[stage].upstream)]
    return [*keys, PROMOTION] if stage == "champion" and "evaluate" in graph else keys


def read_recorded(instance: DagsterInstance, key: AssetKey) -> Recorded:
    """What the newest materialization says."""
    entry = instance.get_latest_materialization_event(key)
    tags = (entry.asset_materialization.tags if entry and entry.asset_materialization else {}) or {}
    return Recorded(tags.get(DATA_VERSION), tags)


def made_tags(graph: Graph, stage: str, lock: Lock, promoted: bool) -> dict[str, str]:
    """Version tags of a materialization: what it is, and the versions it was made from.

    Args:
        graph: the graph.
        stage: what was made.
        lock: dvc.lock after it.
        promoted: whether Dagster knows of a promotion.
    """
    versions = {inputs_key(stage): inputs_version(graph, stage, lock[stage])}
    versions |= {
        AssetKey(name): outs_version(lock[name]) for name in graph[stage].upstream if name in lock
    }
    if PROMOTION in parents(graph, stage):
        versions[PROMOTION] = _champion_version(lock[stage]) if promoted else "INITIAL"
    tags = {
        DATA_VERSION: outs_version(lock[stage]),
        USER_PROVIDED: "true",
        CODE_VERSION: versions[inputs_key(stage)],
    }
    for key, version in versions.items():
        tags[f"{INPUT_VERSION}/{key.to_user_string()}"] = version
        tags[f"{INPUT_POINTER}/{key.to_user_string()}"] = "NULL"
    return tags


def report_inputs(
    graph: Graph, stage: str, lock: Lock, changes: Changes
) -> tuple[str, AssetMaterialization]:
    """The present version of a stage's inputs, and the event that tells it."""
    stale = set(closure(graph, changes))
    made = inputs_version(graph, stage, lock[stage]) if stage in lock else "never run"
    reasons = changes.get(stage, [])
    above = [name for name in graph if name in ancestors(graph, stage) and name in stale]
    if stage in stale:
        told = "\n".join([made, *reasons, *above])
        version = "stale:" + hashlib.md5(told.encode()).hexdigest()
    else:
        version = made
    metadata: dict[str, str | int] = {"state": "up to date with dvc.lock"}
    if reasons or above:
        metadata["state"] = "; ".join(
            [*reasons, *([f"stale above: {', '.join(above)}"] if above else [])]
        )
    tags = {DATA_VERSION: version, USER_PROVIDED: "true"}
    return version, AssetMaterialization(inputs_key(stage), tags=tags, metadata=metadata)


def missing_events(
    graph: Graph, lock: Lock, changes: Changes, recorded: Mapping[AssetKey, Recorded]
) -> tuple[list[AssetMaterialization], list[str]]:
    """What Dagster has to be told.

    Returns:
        Events of inputs whose version has changed, and the stages whose materialization as
        recorded is not what dvc.lock says.
    """
    inputs, remade = [], []
    stale = set(closure(graph, changes))
    promoted = is_promoted(recorded)
    for stage in graph:
        version, event = report_inputs(graph, stage, lock, changes)
        if recorded[inputs_key(stage)].version != version:
            inputs.append(event)
        if stage not in lock:
            continue
        made = _versions(made_tags(graph, stage, lock, promoted))
        known = _versions(recorded[AssetKey(stage)].tags)
        if stage in stale:  # stale by its inputs, whatever the others' versions
            made, known = ({DATA_VERSION: one.get(DATA_VERSION)} for one in (made, known))
        if made != known:
            remade.append(stage)
    return inputs, remade


def is_promoted(recorded: Mapping[AssetKey, Recorded]) -> bool:
    """Whether Dagster knows of a promotion."""
    return PROMOTION in recorded and recorded[PROMOTION].version is not None


def all_keys(graph: Graph) -> list[AssetKey]:
    """Every asset a view of the workspace needs."""
    keys = [key for stage in graph for key in (AssetKey(stage), inputs_key(stage))]
    return [*keys, PROMOTION] if {"evaluate", "champion"} <= set(graph) else keys


def _champion_version(entry: Mapping[str, Any]) -> str:
    """The champion.yaml that a stage was made from, whatever Dagster was told of it since."""
    return next(dep["md5"] for dep in entry["deps"] if dep["path"] == CHAMPION)


def _versions(tags: Mapping[str, str]) -> dict[str, str | None]:
    return {tag: value for tag, value in tags.items()
            if tag == DATA_VERSION or tag.startswith(f"{INPUT_VERSION}/")}  # fmt: skip
