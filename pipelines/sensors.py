"""Sensors: report changes made outside Dagster, and follow an alias moved by hand in MLflow."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from pipelines.commands import run
from pipelines.dvc_state import DvcBusyError, busy_with
from pipelines.outside_runs import report_shell_run
from pipelines.sync import events, signature
from zreward_core.dvc import Graph, closure, environment, is_locked, program

INTERVAL = 30
DATABASE, REGISTRY_LOCK = Path(".zreward/mlflow.db"), Path(".zreward/mlflow.lock")
IN_PROGRESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def dvc_sync(graph: Graph, root: Path) -> SensorDefinition:
    """Reports runs of `dvc repro` in a shell, edits, and checkouts."""

    @sensor(
        name="dvc_sync",
        minimum_interval_seconds=INTERVAL,
        default_status=DefaultSensorStatus.RUNNING,
        description="Reports runs outside Dagster, and stages that are stale in `dvc status`.",
    )
    def body(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        now = signature(graph, root)
        if now == context.cursor:
            return SkipReason("nothing changed")
        if holder := busy_with(root):
            return SkipReason(f"waiting for {holder}")
        executing = _executing(context.instance, graph)  # before their records are read
        try:
            every = events(context.instance, graph, root)
        except DvcBusyError:
            return SkipReason("waiting for a stage that has just started")
        own = [event for event in every if event.asset_key not in executing]
        found = report_shell_run(context, root, own)
        if (root / DATABASE).is_file():
            code, output = run(["sync"], root, {}, lambda line: None)
            if code != 0:
                context.log.warning(f"zreward sync ended with {code}: {output[-1000:]}")
        # stages of a run in progress are compared again later
        cursor = now if len(own) == len(every) else context.cursor
        return SensorResult(asset_events=found, cursor=cursor)

    return body


def champion_moved(graph: Graph, root: Path) -> SensorDefinition:
    """Runs champion and its downstream after the alias was moved by hand in MLflow."""
    downstream = [AssetKey(stage) for stage in closure(graph, ["champion"])]

    @sensor(
        name="champion_moved",
        asset_selection=downstream,
        minimum_interval_seconds=INTERVAL,
        default_status=DefaultSensorStatus.RUNNING,
        description="Follows the alias `champion` of the registry after a move by hand in MLflow.",
    )
    def body(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        seen: dict[str, Any] = json.loads(context.cursor or "null") or {"registry": "", "moves": 0}
        registry = _registry_state(root)
        if registry is None:
            return SkipReason("the registry is empty")
        if registry == seen["registry"]:
            return SkipReason("the registry has not changed")
        if is_locked(root / REGISTRY_LOCK):
            return SkipReason("waiting for `zreward promote`")
        done = subprocess.run(
            [program("zreward"), "adopt", "--json"],
            cwd=root, capture_output=True, text=True, env=environment(),
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"zreward adopt ended with {done.returncode}: {done.stderr[-2000:]}")
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        seen = {"registry": _registry_state(root), "moves": seen["moves"] + bool(answer["changed"])}
        requests = []
        if answer["changed"]:
            key = f"champion-{answer['version']}-move-{seen['moves']}"
            requests = [RunRequest(run_key=key, asset_selection=downstream,
                                   tags={"champion": str(answer["version"])})]  # fmt: skip
        return SensorResult(run_requests=requests, cursor=json.dumps(seen))

    return body


def _executing(instance: DagsterInstance, graph: Graph) -> set[AssetKey]:
    """Stages of Dagster's runs in progress, which report these themselves when they end."""
    runs = instance.get_runs(RunsFilter(statuses=IN_PROGRESS))
    stages = {AssetKey(stage) for stage in graph}
    return {key for run in runs for key in run.asset_selection or stages}


def _registry_state(root: Path) -> str | None:
    """A value that changes with the registry's database, and always for a remote server."""
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        return os.urandom(8).hex()
    files = [root / DATABASE, root / f"{DATABASE}-wal"]
    facts = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
    return str(facts) if facts else None
