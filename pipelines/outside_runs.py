"""Stages that ran in a shell, reported as a finished Dagster run with their own times.

Dagster's home page and its timeline list runs only, not events that belong to none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    SensorEvaluationContext,
)
from dagster._core.events import StepMaterializationData, StepSuccessData
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin

from pipelines.promotion import RECORD
from pipelines.tables import read
from pipelines.versions import PROMOTION

TIMES = Path(".zreward/times")
JOB = "everything"
TAG = {"zreward/started_in": "a shell"}

Event = AssetMaterialization | AssetCheckEvaluation


class Executed(NamedTuple):
    """A stage that ran, with seconds since the epoch."""

    key: AssetKey
    started: float
    ended: float
    events: list[Event]


def report_shell_run(
    context: SensorEvaluationContext, root: Path, found: Sequence[Event]
) -> list[Event]:
    """Report the stages among the events that ran since Dagster's last record of them, as one run.

    Returns:
        The other events: stages restored by a checkout, and versions of inputs.
    """
    if context.repository_def is None:
        return list(found)
    executed = [one for key in _keys(found) if (one := _executed(context.instance, root, key))]
    reported = {key.key: key for key in executed}
    rest = []
    for event in found:
        if event.asset_key in reported:
            reported[event.asset_key].events.append(event)
        else:
            rest.append(event)
    if executed:
        _report(context, sorted(executed, key=lambda one: one.ended))
    return rest


def _keys(found: Sequence[Event]) -> list[AssetKey]:
    """Materialized stages; the keys of their inputs have two parts."""
    made = (event.asset_key for event in found if isinstance(event, AssetMaterialization))
    return [key for key in made if len(key.path) == 1]


def _executed(instance: DagsterInstance, root: Path, key: AssetKey) -> Executed | None:
    """The last run of a stage; None if it was not timed, or Dagster has a later record of it."""
    if key == PROMOTION:
        started = ended = (root / RECORD).stat().st_mtime
    else:
        record = read(root / TIMES / f"{key.to_user_string()}.json") or {}
        if not record.get("ended"):
            return None
        started, ended = record["started"], record["ended"]
    known = instance.get_latest_materialization_event(key)
    if known is not None and known.timestamp >= ended:
        return None
    return Executed(key, started, ended, [])


def _report(context: SensorEvaluationContext, executed: Sequence[Executed]) -> None:
    instance, repository = context.instance, context.repository_def
    assert repository is not None
    origin = context.code_location_origin
    run = instance.create_run_for_job(
        repository.get_job(JOB),
        asset_selection={one.key for one in executed},
        status=DagsterRunStatus.NOT_STARTED,
        tags=TAG,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(origin, repository.name), JOB)
        if origin
        else None,
    )

    def report(kind: DagsterEventType, at: float, step: str | None, data: Any = None) -> None:
        event = DagsterEvent(kind.value, JOB, step_key=step, event_specific_data=data)
        instance.report_dagster_event(event, run.run_id, timestamp=at)

    report(DagsterEventType.PIPELINE_START, min(one.started for one in executed), None)
    for one in executed:
        step = one.key.to_python_identifier()
        report(DagsterEventType.STEP_START, one.started, step)
        for event in one.events:
            if isinstance(event, AssetMaterialization):
                data = StepMaterializationData(event)
                report(DagsterEventType.ASSET_MATERIALIZATION, one.ended, step, data)
            else:
                report(DagsterEventType.ASSET_CHECK_EVALUATION, one.ended, step, event)
        success = StepSuccessData(1000 * (one.ended - one.started))
        report(DagsterEventType.STEP_SUCCESS, one.ended, step, success)
    report(DagsterEventType.PIPELINE_SUCCESS, max(one.ended for one in executed), None)
