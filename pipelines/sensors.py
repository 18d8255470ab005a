"""Sensors: they tell Dagster what ran outside, and follow an alias that a person moved."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from pipelines.commands import run
from pipelines.dvc_state import DvcBusyError, busy_with, environment, program
from pipelines.graph import Graph, closure
from pipelines.sync import events, signature

INTERVAL = 30
DATABASE = Path(".zreward/mlflow.db")


def dvc_sync(graph: Graph, root: Path) -> SensorDefinition:
    """Reports what `dvc repro` in a shell made, what was edited, and what was checked out."""

    @sensor(
        name="dvc_sync",
        minimum_interval_seconds=INTERVAL,
        default_status=DefaultSensorStatus.RUNNING,
        description="Reports what ran outside Dagster, and what `dvc status` calls stale.",
    )
    def body(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        now = signature(graph, root)
        if now == context.cursor:
            return SkipReason("nothing changed")
        if doing := busy_with(root):
            return SkipReason(f"waiting for {doing}")
        try:
            found = events(context.instance, graph, root)
        except DvcBusyError:
            return SkipReason("a stage began to run; its end is awaited")
        if (root / DATABASE).is_file():
            code, output = run(["sync"], root, {}, lambda line: None)
            if code != 0:
                context.log.warning(f"zreward sync ended with {code}: {output[-1000:]}")
        return SensorResult(asset_events=found, cursor=now)

    return body


def champion_moved(graph: Graph, root: Path) -> SensorDefinition:
    """Starts champion and what is below it when a person moved the alias in MLflow."""
    below = [AssetKey(stage) for stage in closure(graph, ["champion"])]

    @sensor(
        name="champion_moved",
        asset_selection=below,
        minimum_interval_seconds=INTERVAL,
        default_status=DefaultSensorStatus.RUNNING,
        description="Follows the alias `champion` of the registry, moved by a person in MLflow.",
    )
    def body(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        seen: dict[str, Any] = json.loads(context.cursor or "null") or {"registry": "", "moves": 0}
        registry = _registry_state(root)
        if registry is None:
            return SkipReason("nothing was registered yet")
        if registry == seen["registry"]:
            return SkipReason("the registry has not changed")
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
            requests = [RunRequest(run_key=key, asset_selection=below,
                                   tags={"champion": str(answer["version"])})]  # fmt: skip
        return SensorResult(run_requests=requests, cursor=json.dumps(seen))

    return body


def _registry_state(root: Path) -> str | None:
    """Changes with the registry's database; a server elsewhere is asked every time."""
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        return os.urandom(8).hex()
    files = [root / DATABASE, root / f"{DATABASE}-wal"]
    facts = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
    return str(facts) if facts else None
