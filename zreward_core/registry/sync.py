"""Which run made the bytes that dvc.lock names, and tags that say so on both sides."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zreward_core.registry.stage_fingerprint import md5s, read_lock, recipe_of
from zreward_core.registry.tracker import OUTS_TAG, RECIPE_TAG, STAGE_TAG
from zreward_core.store import connect, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MAX_RUNS = 1000
"""Runs of one recipe that are looked at, latest first."""


class Synced(NamedTuple):
    """What became of one stage."""

    stage: str
    run_id: str | None
    outcome: str
    """tagged, known (tagged before), or no run."""


def sync() -> Iterator[Synced]:
    """Tag the run behind each stage of dvc.lock with the md5s of its outs.

    A stage that ran last is tagged; one that was restored from DVC's cache finds the run that made
    these bytes. Doing it again changes nothing.
    """
    client = connect()
    for stage, entry in read_lock().items():
        run = find_run(client, stage, entry)
        if run is None:
            yield Synced(stage, None, "no run")
        elif OUTS_TAG in run.data.tags:
            yield Synced(stage, run.info.run_id, "known")
        else:
            client.set_tag(run.info.run_id, OUTS_TAG, outs_text(entry))
            yield Synced(stage, run.info.run_id, "tagged")


def describe(synced: list[Synced]) -> str:
    """What was tagged, stages that no run is known for, and how many were known before."""
    told = [f"{one.stage}: run {one.run_id} tagged" for one in synced if one.outcome == "tagged"]
    told += [
        f"{one.stage}: no run made these bytes (tracking was off, or they came from elsewhere)"
        for one in synced
        if one.outcome == "no run"
    ]
    known = sum(one.outcome == "known" for one in synced)
    return "\n".join([*told, f"{known} of {len(synced)} stages were tagged before"])


def find_run(client: "MlflowClient", stage: str, entry: Mapping[str, Any]) -> "Run | None":
    """The latest finished run that made a lock entry's outs.

    That is the latest run of the same deps and params, unless it is known to have made other
    bytes; else any run of the stage that is known to have made these.
    """
    wanted = outs_text(entry)
    same_recipe = _finished(client, stage, RECIPE_TAG, recipe_of(entry))
    for run in same_recipe:
        if run.data.tags.get(OUTS_TAG, wanted) == wanted:
            return run
    return next(iter(_finished(client, stage, OUTS_TAG, wanted)), None)


def outs_text(entry: Mapping[str, Any]) -> str:
    """The tag's value: path to md5 of a lock entry's outs."""
    return json.dumps(md5s(entry, "outs"), sort_keys=True)


def _finished(client: "MlflowClient", stage: str, tag: str, value: str) -> list["Run"]:
    conditions = [
        "attributes.status = 'FINISHED'",
        f"tags.`{STAGE_TAG}` = '{stage}'",
        f"tags.`{tag}` = '{value}'",
    ]
    return list(
        client.search_runs(
            [experiment_id(client)],
            " and ".join(conditions),
            max_results=MAX_RUNS,
            order_by=["attributes.start_time DESC"],
        )
    )
