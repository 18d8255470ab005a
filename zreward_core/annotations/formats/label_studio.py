"""Label Studio's raw JSON export: ratings (choices, stars, numbers) and comparisons of two.

Not JSON_MIN, which drops the annotator and the skip flag. The community edition exports every
annotated task, skipped ones (``was_cancelled``) included. A native judgement is one result item;
an annotation without result items, or a task without annotations, counts as one ignored record.

Format: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks
"""

import json
import math
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.side_by_side import one_by_one
from zreward_core.annotations.ingest.accounting import SourceRows
from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.config import UserError
from zreward_core.rubric import Rubric
from zreward_core.schemas import digest, item_id, prompt_id

SCORE_TYPES = ("choices", "rating", "number")
"""Result types that hold a score."""
JUDGEMENT_TYPES = (*SCORE_TYPES, "pairwise")
"""Result types that are judgements; one of another type (a comment, a region) is an event."""
PAIRS_OF_KEYS = (
    ("image_a", "image_b"),
    ("image_1", "image_2"),
    ("image1", "image2"),
    ("left", "right"),
    ("left_image", "right_image"),
)
"""Names under which the data of a task may hold two images to compare."""
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
"""What a pairwise control (left and right alone) or choices beside it can say."""
MAX_SECONDS = 1e9
"""A lead time beyond this is no measurement."""
RAW_LENGTH = 2000
"""Quarantined records are kept up to this many characters."""

Record = dict[str, Any]


def read_label_studio(path: Path, source: str, rubric: Rubric, images: ImageFolder) -> SourceRows:
    """Read one export.

    Args:
        path: the JSON file.
        source: name of the source, for the tables.
        rubric: its dimensions are the names of the controls, its scale that of the scores.
        images: what ``data.image`` refers to.

    Raises:
        UserError: the file is no JSON, or no list of tasks.
    """
    tasks = one_by_one(load_export(path))
    rows = SourceRows(source, num_native=count_native(tasks))
    prompts: dict[str, str | None] = {}
    for index, task in enumerate(tasks):
        _read_task(task, index, path, rows, rubric, images, prompts)
    rows.check_account()
    return rows


def count_native(tasks: list[Any]) -> int:
    """Number of native judgements in an export, counted without reading any of them."""
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
        UserError: the file is missing, no JSON, or no list.
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
        raise UserError(f"{path}: not a readable JSON export ({error})") from None
    if not isinstance(tasks, list):
        raise UserError(
            f"{path}: a raw Label Studio export is a list of tasks; export as JSON (not JSON-MIN)"
        )
    return tasks


def _read_task(
    task: Any,
    index: int,
    path: Path,
    rows: SourceRows,
    rubric: Rubric,
    images: ImageFolder,
    prompts: dict[str, str | None],
) -> None:
    if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
        rows.set_aside(f"{path}#task at index {index}", "malformed_record", _raw(task))
        return
    number = _clean(task.get("id", f"at index {index}"))
    task_ref = f"{path}#task {number}"
    if not task["annotations"]:
        rows.ignore("empty_result")
        return
    item, fault = _read_item(task, task_ref, rows.source, images)
    sides = _read_sides(task, task_ref, item, rows.source, images) if fault is None else None
    if sides is not None:
        item, fault = item | {"sides": sides[0]}, sides[1]
    if fault is None and prompts.setdefault(number, item["prompt"]) != item["prompt"]:
        fault = "conflicting_prompt"
    for place, annotation in enumerate(task["annotations"]):
        _read_annotation(annotation, place, task_ref, item, fault, rows, rubric)


def _read_item(
    task: Record, task_ref: str, source: str, images: ImageFolder
) -> tuple[Record, str | None]:
    """The columns that all judgements of a task share, and what is wrong with all of them."""
    empty = dict.fromkeys(("item_id", "prompt_id", "prompt", "image_id", "generator"))
    data = task.get("data")
    if not isinstance(data, dict):
        return empty, "malformed_record"
    prompt, reference, generator = data.get("prompt"), data.get("image"), data.get("generator")
    if not isinstance(prompt, str | None) or not isinstance(reference, str | None):
        return empty, "malformed_record"
    prompt = _clean(prompt) if prompt and prompt.strip() else None
    identifier, fault = images.resolve(reference) if reference else (None, None)
    known = prompt is not None and identifier is not None
    item = {
        "item_id": item_id(str(prompt), str(identifier)) if known else digest(source, task_ref),
        "prompt_id": prompt_id(prompt) if prompt is not None else None,
        "prompt": prompt,
        "image_id": identifier,
        "generator": _text(generator),
    }
    return item, fault


def _read_sides(
    task: Record, task_ref: str, item: Record, source: str, images: ImageFolder
) -> tuple[tuple[str, str], str | None] | None:
    """The two items of a task that compares images, and what is wrong; None if it does not."""
    data = task["data"]
    keys = next((pair for pair in PAIRS_OF_KEYS if all(data.get(key) for key in pair)), None)
    if keys is None or not all(isinstance(data[key], str) for key in keys):
        return None
    items, fault = [], None
    for key in keys:
        identifier, found = images.resolve(data[key])
        fault = fault or found
        known = identifier is not None and item["prompt"] is not None
        name = item_id(item["prompt"], str(identifier)) if known else None
        items.append(name or digest(source, task_ref, data[key]))
    return (items[0], items[1]), fault


def _read_annotation(
    annotation: Any,
    place: int,
    task_ref: str,
    item: Record,
    fault: str | None,
    rows: SourceRows,
    rubric: Rubric,
) -> None:
    if not isinstance(annotation, dict):
        reference = f"{task_ref} annotation at index {place}"
        rows.set_aside(reference, "malformed_record", _raw(annotation))
        return
    reference = f"{task_ref} annotation {_clean(annotation.get('id', f'at index {place}'))}"
    result = annotation.get("result")
    if annotation.get("was_cancelled") is True:
        rows.ignore("skipped", max(1, len(result)) if isinstance(result, list) else 1)
        return
    if not isinstance(result, list):
        rows.set_aside(reference, "malformed_record", _raw(annotation))
        return
    if not result:
        rows.ignore("empty_result")
        return
    shared = {
        **item,
        "annotator_id": _annotator(annotation.get("completed_by")),
        "submitted_at": _text(annotation.get("created_at")),
        "seconds": _finite(annotation.get("lead_time")),
        "source": rows.source,
    }
    for number, entry in enumerate(result):
        _read_result(entry, number, reference, shared, fault, rows, rubric)


def _read_result(
    entry: Any,
    number: int,
    reference: str,
    shared: Record,
    fault: str | None,
    rows: SourceRows,
    rubric: Rubric,
) -> None:
    name = entry.get("from_name") if isinstance(entry, dict) else None
    kind = entry.get("type") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not isinstance(kind, str):
        rows.set_aside(f"{reference} result {number + 1}", "malformed_record", _raw(entry))
        return
    if kind not in JUDGEMENT_TYPES:
        rows.ignore("event")
        return
    row_ref = f"{reference} {_clean(name)}"
    sides = shared.get("sides")
    if sides is not None:
        _read_comparison(entry, name, row_ref, shared, fault, rows, rubric)
        return
    score, reason = _read_score(entry.get("value"), kind)
    if name not in rubric.names:
        reason = "unknown_dimension"
    elif reason is None and not rubric.minimum <= score <= rubric.maximum:
        reason = "out_of_range"
    reason = reason or fault
    if reason is not None:
        rows.set_aside(row_ref, reason, _raw(entry))
        return
    rows.ratings.append(
        {**shared, "dimension": name, "score": score, "native_score": score, "row_ref": row_ref}
    )


def _read_comparison(
    entry: Record,
    name: str,
    row_ref: str,
    shared: Record,
    fault: str | None,
    rows: SourceRows,
    rubric: Rubric,
) -> None:
    value = entry.get("value")
    said = value.get("selected", value.get("choices")) if isinstance(value, dict) else None
    if isinstance(said, list) and len(said) <= 1:
        said = said[0] if said else None
    vote = VOTES.get(said.strip().casefold()) if isinstance(said, str) else None
    reason = "missing_value" if said in (None, "") else "malformed_record" if vote is None else None
    if name not in rubric.names:
        reason = "unknown_dimension"
    reason = reason or fault
    if reason is not None:
        rows.set_aside(row_ref, reason, _raw(entry))
        return
    rows.comparisons.append(
        {
            "item_a": shared["sides"][0],
            "item_b": shared["sides"][1],
            "dimension": name,
            "vote": vote,
            "annotator_id": shared["annotator_id"],
            "source": rows.source,
            "row_ref": row_ref,
        }
    )


def _read_score(value: Any, kind: str) -> tuple[float, str | None]:
    """The score of a result's value, or what is wrong with it."""
    if kind not in SCORE_TYPES:
        return math.nan, "malformed_record"
    if not isinstance(value, dict):
        return math.nan, "missing_value" if value is None else "malformed_record"
    native = value.get(kind)
    if kind == "choices" and isinstance(native, list):
        if len(native) > 1:
            return math.nan, "malformed_record"
        native = native[0] if native else None
    if native is None or native == "":
        return math.nan, "missing_value"
    if isinstance(native, bool) or not isinstance(native, str | int | float):
        return math.nan, "malformed_record"
    try:
        score = float(native)
    except (ValueError, OverflowError):
        return math.nan, "malformed_record"
    return score, "missing_value" if math.isnan(score) else None


def _annotator(completed_by: Any) -> str | None:
    """Identifier of an annotator: exports hold an id or an object with one."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("id", completed_by.get("email"))
    return _text(completed_by)


def _text(value: Any) -> str | None:
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    return _clean(value) if usable else None


def _clean(value: Any) -> str:
    """Text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return str(value).encode("utf-8", "replace").decode()


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < MAX_SECONDS else None


def _raw(record: Any) -> str:
    return _clean(json.dumps(record, ensure_ascii=False))[:RAW_LENGTH]
