"""The MLflow run of a whole pipeline run: parent of the runs of its stages, with all their results.

Two of them can be compared as a whole: their params are those of params.yaml, their metrics those
of the stages, preceded by the stage's name.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward_core.config import merged_params
from zreward_core.registry.results import curves, metric_name, numbers
from zreward_core.store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

PIPELINE = "ZREWARD_PIPELINE"
"""Environment variable of the processes of a pipeline run: its name, which is unique."""
PIPELINE_TAG = "zreward.pipeline"
PARENT_TAG = "mlflow.parentRunId"
MAX_VALUE, MAX_BATCH = 5900, 100
"""Limits of the MLflow API: characters of a param or tag, params of a batch."""


def pipeline_name(label: str) -> str:
    """A new name: the label and the time."""
    return f"{label} {datetime.now(UTC).strftime('%Y-%m-%d %H:%M:%S')}"


def find_pipeline(client: "MlflowClient") -> str | None:
    """Id of the run of the pipeline run that this process is part of."""
    name = os.environ.get(PIPELINE)
    if not name:
        return None
    where = f"tags.`{PIPELINE_TAG}` = '{name}'"
    found = client.search_runs([experiment_id(client)], where, max_results=1)
    return found[0].info.run_id if found else None


def join_pipeline(
    client: "MlflowClient", tags: Mapping[str, str], overlay: Path | None
) -> str | None:
    """Id of that run, which is created for its first stage; it is marked as running.

    Args:
        tags: of the stage's run.
        overlay: the file that is merged over params.yaml.
    """
    name = os.environ.get(PIPELINE)
    if not name:
        return None
    found = find_pipeline(client)
    if found:
        client.update_run(found, status="RUNNING")
        return found
    kept = {key: value for key, value in tags.items() if not key.startswith("zreward.fingerprint")}
    kept = {key: value for key, value in kept.items() if key != "zreward.stage"}
    kept |= {PIPELINE_TAG: name, "mlflow.source.name": "zreward"}
    run_id = client.create_run(experiment_id(client), run_name=name, tags=kept).info.run_id
    log_params(client, run_id, merged_params(overlay))
    return run_id


def log_stage_results(client: "MlflowClient", run_id: str, stage: str) -> None:
    """Log a stage's final metrics, and the last values of its curves, to the pipeline's run."""
    from mlflow.entities import Metric

    stamp = int(datetime.now(UTC).timestamp() * 1000)
    folder = Path("data") / stage
    found = {name: value for name, value, _ in curves(folder)} | numbers(folder)
    if found:
        named = {metric_name(stage, name): value for name, value in found.items()}
        metrics = [Metric(name, value, stamp, 0) for name, value in named.items()]
        client.log_batch(run_id, metrics=metrics)


def log_minutes(client: "MlflowClient", run_id: str) -> None:
    """Log the time since the start of a run.

    It is the one metric without a stage's name: MLflow shows an empty section if there is none.
    """
    started = client.get_run(run_id).info.start_time / 1000
    client.log_metric(run_id, "minutes", (datetime.now(UTC).timestamp() - started) / 60)


def log_params(client: "MlflowClient", run_id: str, params: dict[str, Any]) -> None:
    """Log nested params by dotted name."""
    from mlflow.entities import Param

    flat = [Param(key, value[:MAX_VALUE]) for key, value in flatten(params).items()]
    for first in range(0, len(flat), MAX_BATCH):
        client.log_batch(run_id, params=flat[first : first + MAX_BATCH])


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names; values other than strings as JSON."""
    flat: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
