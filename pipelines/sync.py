"""Events for changes outside Dagster: `dvc repro` in a shell, checkouts, edits, promotions."""

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
from pipelines.dvc_state import read_status
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
from zreward_core.dvc import Graph, read_lock

Event = AssetMaterialization | AssetCheckEvaluation
OUTSIDE = "outside Dagster"
"""Value of ``how`` for stages run in a shell or restored by a checkout."""


def events(instance: DagsterInstance, graph: Graph, root: Path) -> list[Event]:
    """Events that bring Dagster's records in line with DVC; none if they already are.

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
    judged = (evaluation(check, root) for check in CHECKS if check.asset in made)
    return [*found, *(one for one in judged if one is not None)]


def signature(graph: Graph, root: Path) -> str:
    """Hash of the sizes and times of all files that `dvc status` depends on."""
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
    """Whether there is a promotion that Dagster has not recorded."""
    if not (root / RECORD).is_file() or not (root / CHAMPION).is_file():
        return False
    tags = promotion_tags(root)
    return any(recorded.tags.get(tag) != tags[tag] for tag in (RECORD_TAG, "dagster/data_version"))
