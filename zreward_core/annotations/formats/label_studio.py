"""Label Studio's raw JSON export: a record per result item.

JSON_MIN is not read: it drops the annotator and the skip flag. The community edition exports every
annotated task, skipped ones (``was_cancelled``) included. A native judgement is one result item; an
annotation without result items, or a task without annotations, counts as one ignored entry.

A task that names two images holds comparisons: its records have ``image_a``, ``image_b`` and
``vote``. All others are ratings: ``image`` and ``score``.

Format: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from zreward_core.annotations.formats.records import (
    Records,
    Wanted,
    columns_of,
    raw_text,
    writable,
)
from zreward_core.annotations.formats.side_by_side import one_by_one
from zreward_core.config import UserError

BATCH_TASKS = 2**14
LARGEST = 1e300
"""JSON integers can be too large for a float."""
SCORE_TYPES = ("choices", "rating", "number")
"""Result types that hold a score."""
JUDGEMENT_TYPES = (*SCORE_TYPES, "pairwise")
"""Result types that are judgements; any other (a comment, a region) is an event."""
PAIRS_OF_KEYS = (
    ("image_a", "image_b"),
    ("image_1", "image_2"),
    ("image1", "image2"),
    ("left", "right"),
    ("left_image", "right_image"),
)
"""Keys of a task's data that hold two images to compare."""
VOTES = {
    "left": "a",
    "right": "b",
    "a": "a",
    "b": "b",
    "tie": "tie",
    "same": "tie",
    "both bad": "both_bad",
    "both_bad": "both_bad",
}
"""Answers of a pairwise control (left and right alone) or of choices beside it, in lower case."""
_SAME = ("prompt", "generator", "annotator_id", "submitted_at", "seconds", "score")
SETTINGS: dict[str, Any] = {
    "images": "data/candidates/images",
    "columns": {
        **{name: name for name in _SAME},
        "image": "image",
        "image_a": "image_a",
        "image_b": "image_b",
        "item": "task",
        "vote": {"column": "vote", "map": VOTES},
    },
    "dimension": {"column": "from_name"},
}
"""Source settings that describe the records; the scale is the rubric's unless one is given."""

Record = dict[str, Any]


def read_label_studio(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read an export.

    A record has the columns of ``SETTINGS``, the task's ``data`` and ``type``, the result type.

    Raises:
        UserError: the file is not JSON, or not a list of tasks.
    """
    tasks = one_by_one(load_export(path))
    prompts: dict[str, Any] = {}
    for start in range(0, len(tasks), BATCH_TASKS):
        part, batch = tasks[start : start + BATCH_TASKS], _Batch()
        for index, task in enumerate(part, start=start):
            _read_task(task, index, path, batch, prompts)
        yield Records(
            columns_of(batch.rows, wanted),
            pa.array(batch.refs, pa.string()),
            batch.broken,
            faults=batch.faults,
            raw=batch.raw,
            ignored=batch.ignored,
            num_native=count_native(part),
        )


def count_native(tasks: list[Any]) -> int:
    """Number of native judgements of an export, counted without reading any of them."""
    number = 0
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, dict) else None
        if not isinstance(annotations, list) or not annotations:
            number += 1
            continue
        for annotation in annotations:
            result = annotation.get("result") if isinstance(annotation, dict) else None
            number += max(1, len(result)) if isinstance(result, list) else 1
    return number


def load_export(path: Path) -> list[Any]:
    """The tasks of a raw export, as they are.

    Raises:
        UserError: the file is missing, not JSON, or not a list.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: export the project as JSON (not JSON-MIN)")
    try:
        tasks = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; export the project again as JSON"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON at line {error.lineno} column {error.colno} ({error.msg}); "
            "export the project again as JSON"
        ) from None
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable JSON export ({error}); export the project again as JSON"
        ) from None
    if not isinstance(tasks, list):
        raise UserError(
            f"{path}: a raw Label Studio export is a list of tasks; export as JSON (not JSON-MIN)"
        )
    return tasks


@dataclass
class _Batch:
    """Records of some tasks while they are being read."""

    rows: list[Record] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def _read_task(task: Any, index: int, path: Path, batch: _Batch, prompts: dict[str, Any]) -> None:
    if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
        batch.broken.append((f"task at index {index}", raw_text(task)))
        return
    ref = f"task {writable(str(task.get('id', f'at index {index}')))}"
    if not task["annotations"]:
        batch.ignored["empty_result"] += 1
    data = task.get("data")
    shared, fault = _shared(data) if isinstance(data, dict) else ({}, "malformed_record")
    if fault is None and prompts.setdefault(ref, shared["prompt"]) != shared["prompt"]:
        fault = "conflicting_prompt"
    shared |= {"task": f"{path}#{ref}", "data": data}
    for place, annotation in enumerate(task["annotations"]):
        _read_annotation(annotation, place, ref, shared, fault, batch)


def _shared(data: Record) -> tuple[Record, str | None]:
    """Columns shared by all judgements of a task, and the fault that they share."""
    keys = next((pair for pair in PAIRS_OF_KEYS if all(data.get(key) for key in pair)), None)
    if keys is not None and all(isinstance(data[key], str) for key in keys):
        images = {"image_a": data[keys[0]], "image_b": data[keys[1]]}
    else:
        images = {"image": data.get("image")}
    texts = {"prompt": data.get("prompt"), **images}
    sound = all(isinstance(one, str | None) for one in (*texts.values(), data.get("image")))
    shared = {**texts, "generator": _identifier(data.get("generator"))}
    return shared, None if sound else "malformed_record"


def _read_annotation(
    annotation: Any, place: int, task_ref: str, shared: Record, fault: str | None, batch: _Batch
) -> None:
    if not isinstance(annotation, dict):
        batch.broken.append((f"{task_ref} annotation at index {place}", raw_text(annotation)))
        return
    number = writable(str(annotation.get("id", f"at index {place}")))
    ref = f"{task_ref} annotation {number}"
    result = annotation.get("result")
    if annotation.get("was_cancelled") is True:
        batch.ignored["skipped"] += max(1, len(result)) if isinstance(result, list) else 1
    elif not isinstance(result, list):
        batch.broken.append((ref, raw_text(annotation)))
    elif not result:
        batch.ignored["empty_result"] += 1
    else:
        judged = {
            **shared,
            "annotator_id": annotator_of(annotation.get("completed_by")),
            "submitted_at": _identifier(annotation.get("created_at")),
            "seconds": _seconds(annotation.get("lead_time")),
        }
        for index, entry in enumerate(result, start=1):
            _read_result(entry, f"{ref} result {index}", ref, judged, fault, batch)


def _read_result(
    entry: Any, place: str, ref: str, judged: Record, fault: str | None, batch: _Batch
) -> None:
    name = entry.get("from_name") if isinstance(entry, dict) else None
    kind = entry.get("type") if isinstance(entry, dict) else None
    row: Record = {}
    if not isinstance(name, str) or not isinstance(kind, str):
        fault = "malformed_record"
    elif kind not in JUDGEMENT_TYPES:
        batch.ignored["event"] += 1
        return
    else:
        place = f"{ref} {writable(name)}"
        answer = _vote if "image_a" in judged else _score
        row, fault_of_answer = answer(entry.get("value"), kind)
        row |= {"from_name": name, "type": kind}
        fault = fault or fault_of_answer
    batch.rows.append(judged | row)
    batch.refs.append(place)
    batch.faults.append(fault)
    batch.raw.append(entry)


def _score(value: Any, kind: str) -> tuple[Record, str | None]:
    """The native score of a result's value (None: missing), and its fault."""
    if kind not in SCORE_TYPES or not isinstance(value, dict | None):
        return {}, "malformed_record"
    native = (value or {}).get(kind)
    if kind == "choices" and isinstance(native, list) and len(native) <= 1:
        native = native[0] if native else None
    too_large = isinstance(native, int) and abs(native) > LARGEST
    return ({}, "malformed_record") if too_large else ({"score": native}, None)


def _vote(value: Any, kind: str) -> tuple[Record, str | None]:
    """The answer of a comparison, in lower case (None: missing)."""
    answer = value.get("selected", value.get("choices")) if isinstance(value, dict) else None
    if isinstance(answer, list) and len(answer) <= 1:
        answer = answer[0] if answer else None
    return {"vote": answer.casefold() if isinstance(answer, str) else answer}, None


def annotator_of(completed_by: Any) -> str | None:
    """Identifier of an annotator: exports hold an id or an object with one."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("id", completed_by.get("email"))
    return _identifier(completed_by)


def _seconds(value: Any) -> float | None:
    timed = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if timed and abs(value) < LARGEST else None


def _identifier(value: Any) -> str | None:
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if usable else None
