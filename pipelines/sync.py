"""What ran outside Dagster, as events: `dvc repro` in a shell, checkouts, edits, promotions."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
)

from pipelines.checks import CHECKS, evaluation
from pipelines.dvc_state import read_lock, read_status
from pipelines.graph import Graph
from pipelines.metadata import describe
from pipelines.promotion import (
    RECORD,
    RECORD_TAG,
    promotion_metadata,
    promotion_tags,
    tags_with_inputs,
)
from pipelines.versions import (
    CHAMPION,
    PROMOTION,
    Recorded,
    all_keys,
    is_promoted,
    made_tags,
    missing_events,
    read_recorded,
)

Event = AssetMaterialization | AssetCheckEvaluation
OUTSIDE = "outside Dagster"
"""In a shell, or by a checkout; the md5s are those of dvc.lock."""


def events(instance: DagsterInstance, graph: Graph, root: Path) -> list[Event]:
    """Events after which Dagster agrees with DVC; none where it does already.

    Raises:
        DvcError: `dvc status` failed.
    """
    recorded = {key: read_recorded(instance, key) for key in all_keys(graph)}
    found: list[AssetMaterialization] = []
    lock, changes = read_lock(root), read_status(root)
    if PROMOTION in recorded and _was_promoted(root, recorded[PROMOTION]):
        tags = tags_with_inputs(root, lock, recorded)
        recorded[PROMOTION] = Recorded(promotion_tags(root)["dagster/data_version"], tags)
        found.append(AssetMaterialization(PROMOTION, tags=tags, metadata=promotion_metadata(root)))
    inputs, remade = missing_events(graph, lock, changes, recorded)
    found += inputs
    for stage in remade:
        tags = made_tags(graph, stage, lock, is_promoted(recorded))
        metadata = describe(root, graph[stage], lock, OUTSIDE)
        found.append(AssetMaterialization(AssetKey(stage), tags=tags, metadata=metadata))
    made = {event.asset_key.to_user_string() for event in found} - set(changes)
    return [*found, *(evaluation(check, root) for check in CHECKS if check.asset in made)]


def signature(graph: Graph, root: Path) -> str:
    """Changes with any file that `dvc status` looks at, without reading one."""
    total = hashlib.md5()
    paths = {path for stage in graph.values() for path in (*stage.deps, *stage.outs)}
    for path in ("dvc.yaml", "dvc.lock", "params.yaml", str(RECORD), *sorted(paths)):
        for file in _files(root / path):
            try:
                facts = file.stat()
            except FileNotFoundError:
                continue
            total.update(f"{file} {facts.st_mtime_ns} {facts.st_size}\n".encode())
    return total.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name != "__pycache__")
        yield from (Path(folder) / file for file in sorted(files))


def _was_promoted(root: Path, recorded: Recorded) -> bool:
    """Whether there is a promotion that Dagster does not know."""
    if not (root / RECORD).is_file() or not (root / CHAMPION).is_file():
        return False
    tags = promotion_tags(root)
    return any(recorded.tags.get(tag) != tags[tag] for tag in (RECORD_TAG, "dagster/data_version"))
