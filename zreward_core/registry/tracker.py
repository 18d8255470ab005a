"""The process that logs one run of a stage: ``python -m zreward_core.registry.tracker STAGE``.

It reads two JSON lines from stdin, the config at the start and the status at the end. If the pipe
closes before the second line, the stage was killed.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zreward_core.dvc import GRAPH, Md5s, current_params, read_stages
from zreward_core.registry.dvc_hashes import stage_deps_md5
from zreward_core.registry.pipeline_runs import (
    MAX_BATCH,
    MAX_VALUE,
    PARENT_TAG,
    join_pipeline,
    log_minutes,
    log_params,
    log_stage_results,
)
from zreward_core.registry.results import (
    Point,
    curves,
    images,
    metric_name,
    numbers,
    pages,
    points,
    samples,
    texts,
)
from zreward_core.registry.stage_fingerprint import stage_fingerprint
from zreward_core.schemas import read_json, write_json
from zreward_core.store import connect, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
RUNS, LIVE = Path(".zreward/runs"), Path(".zreward/live")
LIVE_SECONDS = 10.0
"""Time between two looks at the history of the running stage."""
SAMPLES = "samples"
"""Name of the sample images in MLflow."""
FINGERPRINT_TAG = "zreward.fingerprint"
OUTS_TAG = "zreward.outs"
STAGE_TAG = "zreward.stage"
DIRTY_TAG = "zreward.git_dirty"
NOTE_TAG = "mlflow.note.content"
TRACKER_TAG = "zreward.tracker"
FROM_ENVIRONMENT = {
    "dagster_run_id": "ZREWARD_DAGSTER_RUN_ID",
    "dagster_url": "ZREWARD_DAGSTER_URL",
}
"""Tag to the environment variable that an orchestrator sets for it."""


def main() -> None:
    """Track the stage named on the command line."""
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, intended for the stage
        signal.signal(one, signal.SIG_IGN)
    stage = sys.argv[1]
    revision = git_revision()
    client = connect()
    begun = json.loads(sys.stdin.readline() or "{}")
    if "config" in begun:  # else the stage had no valid config
        track(client, stage, begun, revision)


def track(
    client: "MlflowClient", stage: str, begun: dict[str, Any], revision: tuple[str, bool] | None
) -> None:
    """Log a run from start to end; it is terminated even if logging fails."""
    close_orphaned_run(client, stage)
    overlay = Path(begun["overlay"]) if begun["overlay"] else None
    deps, params = inputs(stage, overlay)
    tags = {"mlflow.source.name": f"zreward {stage}", "mlflow.source.type": "LOCAL"}
    tags |= {STAGE_TAG: stage, FINGERPRINT_TAG: stage_fingerprint(deps, params)}
    if revision is not None:
        tags |= {"mlflow.source.git.commit": revision[0], DIRTY_TAG: str(revision[1]).lower()}
    tags |= {tag: os.environ[name] for tag, name in FROM_ENVIRONMENT.items() if name in os.environ}
    link = f"[Run in Dagster]({tags['dagster_url']})" if "dagster_url" in tags else ""
    if link:  # MLflow renders links only in a run's description
        tags[NOTE_TAG] = link
    parent = join_pipeline(client, tags, overlay)
    if parent is not None:
        tags[PARENT_TAG] = parent
    tags[TRACKER_TAG] = uuid.uuid4().hex
    record = {"tracker": tags[TRACKER_TAG], "pid": os.getpid(), "parent_id": parent}
    record |= {"started_at": now(), "ended_at": None}
    path = RUNS / f"{stage}.json"
    write_json(record, path)  # first, so that a kill leaves no run without a record
    run = client.create_run(experiment_id(client), run_name=stage, tags=tags).info
    run_id, record["run_id"], record["experiment_id"] = run.run_id, run.run_id, run.experiment_id
    write_json(record, path)
    status = "KILLED"
    try:
        log_inputs(client, run_id, begun["config"], deps, revision)
        with LiveCurves(client, run_id, stage) as live:
            line = sys.stdin.readline()
        ended = json.loads(line) if line else {"status": status}
        status = ended["status"]
        if ended.get("message"):
            note = f"{link}\n\n{ended['message']}".strip()
            client.set_tag(run_id, NOTE_TAG, note[:MAX_VALUE])
        if status == "FINISHED":
            live.log_images()
            log_results(client, run_id, stage, live.logged)
            log_minutes(client, run_id)
            if parent is not None:
                log_stage_results(client, parent, stage)
                log_minutes(client, parent)
    finally:
        client.set_terminated(run_id, status)
        if parent is not None:  # until its next stage
            client.set_terminated(parent, status)
        write_json(record | {"ended_at": now()}, path)


def log_inputs(
    client: "MlflowClient",
    run_id: str,
    config: dict[str, Any],
    deps: Md5s,
    revision: tuple[str, bool] | None,
) -> None:
    """Log the resolved config as params, and each dep as a dataset with DVC's md5 as digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    log_params(client, run_id, config)
    source = {"revision": revision[0] if revision else None}
    datasets = [
        DatasetInput(
            Dataset(path, md5, "dvc", json.dumps({"path": path, **source})),
            [InputTag("mlflow.data.context", "input")],
        )
        for path, md5 in deps.items()
    ]
    if datasets:
        client.log_inputs(run_id, datasets)


class LiveCurves(threading.Thread):
    """Logs the history and the sample images of a stage while it runs.

    What MLflow does not accept is logged in the next round; the tracker's log has the error.
    """

    def __init__(self, client: "MlflowClient", run_id: str, stage: str) -> None:
        super().__init__(daemon=True)
        self.client, self.run_id, self.stage = client, run_id, stage
        self.path = LIVE / f"{stage}.jsonl"
        self.logged: set[Point] = set()
        self.shown: set[int] = set()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Log what is new, until the stage ends."""
        from mlflow.exceptions import MlflowException

        while not self._ended.wait(LIVE_SECONDS):
            try:
                new = [point for point in points(self.path) if point not in self.logged]
                log_points(self.client, self.run_id, self.stage, new)
                self.logged.update(new)
                self.log_images()
            except MlflowException as error:
                logger.warning("not logged yet: %s", error)

    def log_images(self) -> None:
        """Log the sample images that are new."""
        from PIL import Image

        for step, path in samples(self.path.with_suffix("")).items():
            if step not in self.shown:
                with Image.open(path) as image:
                    self.client.log_image(self.run_id, image, key=SAMPLES, step=step)
                self.shown.add(step)


def log_results(client: "MlflowClient", run_id: str, stage: str, logged: Collection[Point]) -> None:
    """Log curves, final metrics, images, small text files and pages of a stage.

    Args:
        logged: points of the curves that are in MLflow.
    """
    folder = Path("data") / stage
    new = [point for point in curves(folder) if point not in logged]
    log_points(client, run_id, stage, [*new, *((*one, 0) for one in numbers(folder).items())])
    for path in images(folder):
        client.log_artifact(run_id, str(path), "plots")
    for path in (*texts(folder), *pages(folder)):
        client.log_artifact(run_id, str(path))


def log_points(client: "MlflowClient", run_id: str, stage: str, found: Sequence[Point]) -> None:
    """Log numbers of steps."""
    from mlflow.entities import Metric

    stamp = int(datetime.now(UTC).timestamp() * 1000)
    metrics = [Metric(metric_name(stage, name), value, stamp, step) for name, value, step in found]
    for first in range(0, len(metrics), 10 * MAX_BATCH):
        client.log_batch(run_id, metrics=metrics[first : first + 10 * MAX_BATCH])


def inputs(stage: str, overlay: Path | None) -> tuple[Md5s, dict[str, Any]]:
    """md5s of the deps, and tracked params; both empty if DVC does not manage the stage."""
    managed = GRAPH.is_file() and Path(".dvc").is_dir()
    if not managed or stage not in read_stages(GRAPH):  # a comparison method, run by hand
        return {}, {}
    return stage_deps_md5(stage), current_params(stage, overlay)


def close_orphaned_run(client: "MlflowClient", stage: str) -> None:
    """Mark the stage's last run as killed if it and its tracker were killed together."""
    path = RUNS / f"{stage}.json"
    if not path.is_file():
        return
    record = read_json(path)
    if record.get("ended_at") is None and not is_alive(record.get("pid", 0)):
        from mlflow.exceptions import MlflowException

        try:
            which = f"tags.`{TRACKER_TAG}` = '{record.get('tracker')}'"
            found = client.search_runs([experiment_id(client)], which)
            for one in (*(run.info.run_id for run in found), record.get("parent_id")):
                if one is not None:
                    client.set_terminated(one, "KILLED")
        except MlflowException as error:  # the store was removed since
            logger.warning("killed run of %s: %s", stage, error.message)


def is_alive(pid: int) -> bool:
    """Whether a process with this pid is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


def git_revision() -> tuple[str, bool] | None:
    """Commit of the working tree, and whether tracked files differ from it; None outside git."""
    commands = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    found = []
    for command in commands:
        done = subprocess.run(["git", *command], capture_output=True, text=True)
        if done.returncode != 0:
            return None
        found.append(done.stdout.strip())
    return found[0], bool(found[1])


def now() -> str:
    """Current time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    main()
