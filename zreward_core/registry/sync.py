"""Matching of MLflow runs with the entries of dvc.lock, recorded as tags of the runs."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zreward_core.dvc import md5s, read_lock
from zreward_core.registry.pipeline_runs import find_pipeline, log_stage_results
from zreward_core.registry.stage_fingerprint import locked_fingerprint
from zreward_core.registry.tracker import FINGERPRINT_TAG, OUTS_TAG, STAGE_TAG
from zreward_core.store import connect, experiment_id, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MAX_RUNS = 1000
"""Runs with one fingerprint that are searched, latest first."""


class Synced(NamedTuple):
    """Result for one stage."""

    stage: str
    run_id: str | None
    outcome: str
    """tagged, known (tagged before), or no run."""


def sync() -> Iterator[Synced]:
    """Tag the run behind each stage of dvc.lock with the md5s of its outs; idempotent.

    For a stage that DVC restored from its cache this is the run that produced the cached files.
    """
    entries = read_lock()
    if not entries:
        return
    client = connect()
    with store_errors():
        for stage, entry in entries.items():
            run = find_run(client, stage, entry)
            if run is None:
                yield Synced(stage, None, "no run")
            elif OUTS_TAG in run.data.tags:
                yield Synced(stage, run.info.run_id, "known")
            else:
                client.set_tag(run.info.run_id, OUTS_TAG, outs_text(entry))
                yield Synced(stage, run.info.run_id, "tagged")
        if pipeline := find_pipeline(client):  # with the stages that were restored, not run
            for stage in entries:
                log_stage_results(client, pipeline, stage)


def describe(synced: list[Synced]) -> str:
    """Stages without a run, and the numbers of runs tagged now and before."""
    lines = [
        f"{one.stage}: no run produced these files (tracking was off, or they were copied here)"
        for one in synced
        if one.outcome == "no run"
    ]
    new, known = (sum(one.outcome == kind for one in synced) for kind in ("tagged", "known"))
    tagged = f"{new} of {len(synced)} runs in MLflow tagged with the hashes of their outputs"
    return "\n".join([*lines, f"{tagged}, {known} tagged before"])


def find_run(client: "MlflowClient", stage: str, entry: Mapping[str, Any]) -> "Run | None":
    """The latest finished run that produced a lock entry's outs.

    That is the latest run with the entry's fingerprint, unless its tag names other outs; else any
    run of the stage whose tag names these outs.
    """
    wanted = outs_text(entry)
    for run in _finished(client, stage, FINGERPRINT_TAG, locked_fingerprint(entry)):
        if run.data.tags.get(OUTS_TAG, wanted) == wanted:
            return run
    return next(iter(_finished(client, stage, OUTS_TAG, wanted)), None)


def outs_text(entry: Mapping[str, Any]) -> str:
    """Value of the tag: path to md5 of a lock entry's outs, as JSON."""
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
