"""Data versions by which Dagster and DVC agree on what is stale.

Dagster marks an asset stale if the version of a direct dependency differs from the one recorded at
its materialization; it does not look further upstream. Each stage therefore has an external asset
``inputs/STAGE``: code, params and files that no stage produces. (Dagster reads versions of external
assets from reported materializations, not from observations.) Its version is that of dvc.lock while
the stage is up to date, and another while the stage is in the downstream closure of `dvc status`.
So the stale assets in Dagster are exactly that closure, whether or not Dagster ran the stages.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagster import AssetKey, AssetMaterialization, DagsterInstance

from pipelines.dvc_state import Changes, inputs_version, outs_version
from zreward_core.dvc import Graph, Lock, ancestors, closure

DATA_VERSION = "dagster/data_version"
USER_PROVIDED = "dagster/data_version_is_user_provided"
CODE_VERSION = "dagster/code_version"
INPUT_VERSION = "dagster/input_data_version"
INPUT_POINTER = "dagster/input_event_pointer"
PROMOTION = AssetKey("promotion")
CHAMPION = "data/champion.yaml"
"""Output of a promotion; its md5 is the promotion's data version, in Dagster and in dvc.lock."""


class Recorded(NamedTuple):
    """Data version and tags of an asset's latest materialization."""

    version: str | None
    tags: Mapping[str, str]


def inputs_key(stage: str) -> AssetKey:
    """The external asset for a stage's code, params and own files."""
    return AssetKey(["inputs", stage])


def parents(graph: Graph, stage: str) -> list[AssetKey]:
    """Dependencies of a stage's asset."""
    keys = [inputs_key(stage), *(AssetKey(name) for name in graph[stage].upstream)]
    return [*keys, PROMOTION] if stage == "champion" and "evaluate" in graph else keys


def read_recorded(instance: DagsterInstance, key: AssetKey) -> Recorded:
    """Read the latest materialization of an asset."""
    entry = instance.get_latest_materialization_event(key)
    tags = (entry.asset_materialization.tags if entry and entry.asset_materialization else {}) or {}
    return Recorded(tags.get(DATA_VERSION), tags)


def made_tags(graph: Graph, stage: str, lock: Lock, promoted: bool) -> dict[str, str]:
    """Version tags of a stage's materialization: its own version, and those of its inputs.

    Args:
        graph: the graph.
        stage: the materialized stage.
        lock: dvc.lock after the stage has run.
        promoted: whether Dagster has recorded a promotion.
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
    """The current version of a stage's inputs, and the event that reports it."""
    stale = set(closure(graph, changes))
    made = inputs_version(graph, stage, lock[stage]) if stage in lock else "never run"
    reasons = changes.get(stage, [])
    upstream = [name for name in graph if name in ancestors(graph, stage) and name in stale]
    if stage in stale:
        state = "\n".join([made, *reasons, *upstream])
        version = "stale:" + hashlib.md5(state.encode()).hexdigest()
    else:
        version = made
    metadata: dict[str, str | int] = {"state": "up to date with dvc.lock"}
    if reasons or upstream:
        metadata["state"] = "; ".join(
            [*reasons, *([f"stale upstream: {', '.join(upstream)}"] if upstream else [])]
        )
    tags = {DATA_VERSION: version, USER_PROVIDED: "true"}
    return version, AssetMaterialization(inputs_key(stage), tags=tags, metadata=metadata)


def missing_events(
    graph: Graph, lock: Lock, changes: Changes, recorded: Mapping[AssetKey, Recorded]
) -> tuple[list[AssetMaterialization], list[str]]:
    """Differences between Dagster's records and DVC's state.

    Returns:
        Events for inputs whose version has changed, and the stages whose recorded materialization
        differs from dvc.lock.
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
        if stage in stale:  # its inputs' version already marks it stale
            made, known = ({DATA_VERSION: one.get(DATA_VERSION)} for one in (made, known))
        if made != known:
            remade.append(stage)
    return inputs, remade


def is_promoted(recorded: Mapping[AssetKey, Recorded]) -> bool:
    """Whether Dagster has recorded a promotion."""
    return PROMOTION in recorded and recorded[PROMOTION].version is not None


def all_keys(graph: Graph) -> list[AssetKey]:
    """Keys of all assets of the workspace."""
    keys = [key for stage in graph for key in (AssetKey(stage), inputs_key(stage))]
    return [*keys, PROMOTION] if {"evaluate", "champion"} <= set(graph) else keys


def _champion_version(entry: Mapping[str, Any]) -> str:
    """md5 of the champion.yaml that a stage was run with."""
    return next(dep["md5"] for dep in entry["deps"] if dep["path"] == CHAMPION)


def _versions(tags: Mapping[str, str]) -> dict[str, str | None]:
    return {tag: value for tag, value in tags.items()
            if tag == DATA_VERSION or tag.startswith(f"{INPUT_VERSION}/")}  # fmt: skip
