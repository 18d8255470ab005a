"""Label Studio's JSON (``label_studio_export`` lists its forms): a record per result item.

JSON_MIN is not read: it drops the skip flag. The community edition exports every annotated task,
skipped ones (``was_cancelled``) included. A native judgement is one result item, or two images of a
ranking; an annotation without result items, or a task without annotations, counts as one ignored
entry.

A task with two images, or with a ranking, is read as comparisons: its records have ``image_a``,
``image_b`` and ``vote``. All others are ratings: ``image`` and ``score``. Other names are keys of
the task's data.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from zreward_core.annotations.formats.label_studio_export import count_native, read_export
from zreward_core.annotations.formats.label_studio_results import (
    ANSWER_TYPES,
    LARGEST,
    VOTES,
    comparisons_of,
    count_results,
    identifier,
    is_event,
    is_of_region,
    ranking_of,
    region_ids,
    score_of,
    vote_of,
)
from zreward_core.annotations.formats.records import (
    Records,
    Wanted,
    columns_of,
    pick,
    raw_text,
)
from zreward_core.annotations.formats.side_by_side import one_by_one
from zreward_core.config import UserError, writable

BATCH_TASKS = 2**14
PAIRS_OF_KEYS = (
    ("image_a", "image_b"),
    ("image_1", "image_2"),
    ("image1", "image2"),
    ("left", "right"),
    ("left_image", "right_image"),
)
"""Keys of a task's data that hold two images to compare."""
_SAME = (
    "prompt",
    "image",
    "image_a",
    "image_b",
    "generator",
    "generator_a",
    "generator_b",
    "annotator_id",
    "submitted_at",
    "seconds",
    "score",
)
OWN = {*_SAME, "task", "vote", "from_name", "type"}
"""Columns of a record; any other name is a key of the task's data."""
SETTINGS: dict[str, Any] = {
    "images": "data/candidates/images",
    "columns": {
        **{name: name for name in _SAME},
        "item": "task",
        "vote": {"column": "vote", "map": VOTES},
    },
    "dimension": {"column": "from_name"},
}
"""Source settings that describe the records; the scale is the rubric's unless one is given."""

Record = dict[str, Any]
logger = logging.getLogger(__name__)


def read_label_studio(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read an export.

    A record has the columns of ``SETTINGS``, ``type`` (the result type) and the task's data.

    Raises:
        UserError: the file is not JSON, not an export, or no task has a requested column.
    """
    tasks, places, total = read_export(path)
    if total is not None and total > len(tasks):
        logger.warning(
            "%s: a page of Label Studio's API with %d of %d tasks; save the other pages beside "
            "it, or export the project as JSON",
            path,
            len(tasks),
            total,
        )
    keys = tuple(name for name in wanted.names if name not in OWN)
    _check_keys(tasks, keys, path, wanted)
    reading = _Reading(str(path), wanted, keys)
    for start in range(0, len(tasks), BATCH_TASKS):
        part, batch = tasks[start : start + BATCH_TASKS], _Batch()
        for place, task in zip(places[start:], part, strict=False):
            for one in one_by_one(reading.without_duplicates(task, batch)):
                _read_task(one, place, reading, batch)
        yield Records(
            columns_of(batch.rows, wanted),
            pa.array(batch.refs, pa.string()),
            batch.broken,
            faults=batch.faults,
            raw=batch.raw,
            ignored=batch.ignored,
            num_native=count_native(part),
        )


def _check_keys(tasks: list[Any], keys: tuple[str, ...], path: Path, wanted: Wanted) -> None:
    """Reject requested keys that no task has; warn if prompts or images have another key."""
    datas = [task.get("data") for task in tasks if isinstance(task, dict)]
    found = [data for data in datas if isinstance(data, dict)]
    known = sorted({key for data in found for key in data})
    for name in ("prompt", "image") if found else ():
        lists = any(isinstance(value, list) for data in found for value in data.values())
        pairs = any(set(pair) <= set(known) for pair in PAIRS_OF_KEYS)
        if name in wanted.names and name not in known and not (name == "image" and lists | pairs):
            logger.warning(
                "%s: no task has '%s' in its data (%s); if another key is used, set it in "
                "`columns.%s` of the source",
                path,
                name,
                ", ".join(known),
                name,
            )
    for name in keys:
        if found and all(pick(data, _key(name)) is None for data in found):
            raise UserError(
                f"{path}: no task has '{name}' in its data ({', '.join(known)}); correct `columns` "
                "of the source. The answers of all controls are in the column `score` (`vote` of "
                "comparisons), their names in `from_name`: list those in `dimension.map`"
            )


def _key(name: str) -> str:
    return name.removeprefix("data.")


@dataclass
class _Batch:
    """Records of some tasks while they are being read."""

    rows: list[Record] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, row: Record, ref: str, fault: str | None, raw: Any) -> None:
        """Add a judgement."""
        self.rows.append(row)
        self.refs.append(ref)
        self.faults.append(fault)
        self.raw.append(raw)


@dataclass(frozen=True)
class _Task:
    """Context shared by the judgements of a task (or of one of its annotations)."""

    ref: str
    shared: Record
    """Their columns."""
    fault: str | None
    data: Record
    """The task's data with all of its images."""
    wanted: Wanted


@dataclass
class _Reading:
    """Context shared by the tasks of a file."""

    path: str
    wanted: Wanted
    keys: tuple[str, ...]
    """Requested keys of the tasks' data."""
    annotations: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    """Ids of task and annotation to the annotations with these ids, and the data of their tasks."""
    tasks: dict[str, Any] = field(default_factory=dict)
    """Id of each task to its data."""

    def without_duplicates(self, task: Any, batch: _Batch) -> list[Any]:
        """The task without annotations that were already read; none if no others remain."""
        found = task.get("annotations") if isinstance(task, dict) else None
        if not isinstance(found, list) or not found:
            return [task]
        new = []
        for one in found:
            if self._is_new(one, task):
                new.append(one)
            else:
                batch.ignored["duplicate"] += count_results(one)
        return [{**task, "annotations": new}] if new else []

    def _is_new(self, annotation: Any, task: Record) -> bool:
        if not isinstance(annotation, dict) or annotation.get("id") is None:
            return True
        data = task.get("data")
        key = f"{task.get('id')} {annotation['id']}"
        before = self.annotations.setdefault(key, [])
        if any(one == annotation and at == data for one, at in before):
            return False
        before.append((annotation, data))
        return True

    def name_of(self, task: Record, place: str) -> str:
        """Name of a task; with its place if another task has the same id."""
        name = writable(str(task.get("id", place)))
        same = self.tasks.setdefault(name, task.get("data")) == task.get("data")
        return f"task {name}" if same else f"task {name} ({place})"


def _read_task(task: Any, place: str, reading: _Reading, batch: _Batch) -> None:
    if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
        raw = task if isinstance(task, str) else raw_text(task)
        batch.broken.append((f"task {place}", raw))
        return
    if not task["annotations"]:
        batch.ignored[_absent(task)] += 1
    ref = reading.name_of(task, place)
    data = task.get("data")
    shared, fault = _shared(data, reading) if isinstance(data, dict) else ({}, "malformed_record")
    if task.get("unplaced"):
        fault = fault or "unknown_image"
    shared["task"] = f"{reading.path}#{ref}"
    whole = task.get("whole", data)
    common = _Task(ref, shared, fault, whole if isinstance(whole, dict) else {}, reading.wanted)
    for index, annotation in enumerate(task["annotations"]):
        _read_annotation(annotation, index, common, batch)


def _absent(task: Record) -> str:
    """The reason why a task has no annotations."""
    if task.get("drafts"):
        return "draft"
    return "prediction" if task.get("predictions") else "empty_result"


def _shared(data: Record, reading: _Reading) -> tuple[Record, str | None]:
    """Columns shared by all judgements of a task, and the fault that they share."""
    keys = next((pair for pair in PAIRS_OF_KEYS if all(data.get(key) for key in pair)), None)
    if keys is not None and all(isinstance(data[key], str) for key in keys):
        images = {"image_a": data[keys[0]], "image_b": data[keys[1]]}
    else:
        images = {"image": data.get("image")}
    texts = {"prompt": data.get("prompt"), **images}
    checked = {"image": data.get("image"), **texts}
    wanted = reading.wanted.names
    sound = all(isinstance(checked[key], str | None) for key in checked if key in wanted)
    names = ("generator", "generator_a", "generator_b")
    generators = {name: identifier(data.get(name)) for name in names}
    for name in names[1:]:
        generators[name] = generators[name] or generators["generator"]
    others = {name: pick(data, _key(name)) for name in reading.keys}
    return {**others, **texts, **generators}, None if sound else "malformed_record"


def _read_annotation(annotation: Any, index: int, task: _Task, batch: _Batch) -> None:
    if not isinstance(annotation, dict):
        batch.broken.append((f"{task.ref} annotation at index {index}", raw_text(annotation)))
        return
    name = writable(str(annotation.get("id", f"at index {index}")))
    ref = f"{task.ref} annotation {name}"
    result = annotation.get("result")
    if annotation.get("was_cancelled") is True or annotation.get("skipped") is True:
        batch.ignored["skipped"] += count_results(annotation)
    elif not isinstance(result, list):
        batch.broken.append((ref, raw_text(annotation)))
    elif not result:
        batch.ignored["empty_result"] += 1
    else:
        person = {
            "annotator_id": annotator_of(annotation.get("completed_by"))
            or identifier(annotation.get("created_username")),
            "submitted_at": identifier(annotation.get("created_at")),
            "seconds": _seconds(annotation.get("lead_time")),
        }
        judged = replace(task, ref=ref, shared={**task.shared, **person})
        regions = region_ids(result)
        for number, entry in enumerate(result, start=1):
            _read_result(entry, number, judged, regions, batch)


def _read_result(entry: Any, index: int, task: _Task, regions: set[str], batch: _Batch) -> None:
    name = entry.get("from_name") if isinstance(entry, dict) else None
    kind = entry.get("type") if isinstance(entry, dict) else None
    if isinstance(kind, str) and is_event(kind):
        batch.ignored["event"] += 1
    elif not isinstance(name, str) or not isinstance(kind, str):
        batch.add(task.shared, f"{task.ref} result {index}", "malformed_record", entry)
    elif is_of_region(entry, regions):
        batch.ignored["region"] += count_results({"result": [entry]})
    else:
        place = f"{task.ref} {writable(name)}"
        named = {**task.shared, "from_name": name, "type": kind}
        ranked = ranking_of(entry)
        if ranked is not None:
            for number, (row, fault) in enumerate(comparisons_of(ranked, task.data), start=1):
                batch.add(named | row, f"{place} pair {number}", task.fault or fault, entry)
        elif kind in ANSWER_TYPES:
            row, fault = _answer(entry, task)
            batch.add(named | row, place, task.fault or fault, entry)
        else:
            batch.add(named, f"{place} ({writable(kind)})", task.fault or "unread_kind", entry)


def _answer(entry: Record, task: _Task) -> tuple[Record, str | None]:
    """Columns of an answer, and its fault."""
    compared = task.shared.get("image_a") is not None
    asked = compared or "image_a" not in task.wanted.names  # the settings name the two images
    if entry["type"] == "pairwise":
        return vote_of(entry), None if asked else "unknown_image"
    if compared and entry["type"] != "choices":  # stars or a number: unclear of which image
        return {}, "unknown_image"
    row, fault = score_of(entry)
    return row | vote_of(entry), None if compared else fault


def annotator_of(completed_by: Any) -> str | None:
    """Identifier of an annotator: exports hold an id or an object with one."""
    if isinstance(completed_by, dict):
        names = [completed_by.get(key) for key in ("id", "email")]
        completed_by = next((one for one in names if one not in (None, "")), None)
    return identifier(completed_by)


def _seconds(value: Any) -> float | None:
    timed = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if timed and abs(value) < LARGEST else None
