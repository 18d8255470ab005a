"""Label Studio files: their tasks, and remedies for a file without usable judgements.

Besides the raw export (a list of tasks), these are read: a single task, an annotation from a target
storage (which contains its task), one of either on each line (the JSON Lines of a storage), and a
page of the API (``tasks`` or ``results``). ``completions`` is the name of ``annotations`` before
Label Studio 1.0.

Format: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from zreward_core.annotations.formats.encodings import refuse_gzip
from zreward_core.annotations.formats.json_records import parse_line
from zreward_core.annotations.formats.label_studio_results import (
    SCORE_TYPES,
    count_results,
    native_answer,
)
from zreward_core.annotations.formats.records import parse_json
from zreward_core.config import UserError
from zreward_core.json_faults import explain

LISTED = ("total_annotations", "annotations_ids")
"""Keys of a task on a page of the API, which may have no annotations."""
BY_ID = (
    "It names tasks or annotations by id only, as Label Studio's API can list them: export the "
    "project as JSON, with the annotations"
)
SHOWN = 6
"""Controls and answers listed in a message."""
PAGES, TOTALS = ("tasks", "results"), ("total", "count")
"""Keys of the tasks, and of the number of all tasks, on a page of the API."""
JSON_MIN_KEYS = ("annotation_id", "annotator", "lead_time")
"""Keys next to the data in each row of a JSON-MIN export."""


class Export(NamedTuple):
    """The N tasks of a file; ``completions`` are renamed to ``annotations``."""

    tasks: list[Any]
    """[N] the text of a line that is not JSON is not a task."""
    places: list[str]
    """[N] where each is: "at index 0", or "in line 1" of JSON Lines."""
    total: int | None = None
    """Tasks of the project, if the file is a page of the API."""


def load_export(path: Path) -> list[Any]:
    """The tasks of an export.

    Raises:
        UserError: the file is missing, not JSON, or not an export.
    """
    return read_export(path).tasks


def read_export(path: Path) -> Export:
    """An export with the places of its tasks.

    Raises:
        UserError: the file is missing, not JSON, or not an export.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: export the project as JSON (not JSON-MIN)")
    stored = path.read_bytes()
    refuse_gzip(stored, path)
    try:
        text = stored.decode("utf-8-sig")
        content = parse_json(text)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; export the project again as JSON"
        ) from None
    except json.JSONDecodeError as error:
        if lines := _lines_of(text):
            places = [f"in line {number}" for number in lines]
            return Export([_as_task(one) for one in lines.values()], places)
        fault = explain(error, "export the project again as JSON")
        raise UserError(f"{path}: not valid JSON {fault}") from None
    except ValueError as error:
        raise UserError(
            f"{path}: not a readable JSON export ({error}); export the project again as JSON"
        ) from None
    total = None
    if isinstance(content, dict) and ("data" in content or _is_stored(content)):
        content = [content]
    elif isinstance(content, dict):
        listed = [content[key] for key in PAGES if isinstance(content.get(key), list)]
        total = next((content[key] for key in TOTALS if isinstance(content.get(key), int)), None)
        content = listed[0] if listed else content
    if not isinstance(content, list):
        raise UserError(
            f"{path}: a raw Label Studio export is a list of tasks; export as JSON (not JSON-MIN)"
        )
    places = [f"at index {index}" for index in range(len(content))]
    return Export([_as_task(one) for one in content], places, total)


def _lines_of(text: str) -> dict[int, Any]:
    """Number to content of the lines of JSON Lines, blank ones left out; {} if it is not that."""
    lines = {number: line for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    first = list(lines.values())[:2]
    if len(first) < 2 or not first[0].lstrip().startswith("{"):
        return {}
    if not any(isinstance(parse_line(line), dict) for line in first):
        return {}
    return {number: parse_line(line) for number, line in lines.items()}


def _is_stored(one: Any) -> bool:
    """Whether this is an annotation as written to a target storage."""
    return isinstance(one, dict) and "result" in one and isinstance(one.get("task"), dict)


def _as_task(one: Any) -> Any:
    if _is_stored(one):
        return {**one["task"], "annotations": [{**one, "task": one["task"].get("id")}]}
    if isinstance(one, dict) and isinstance(one.get("completions"), list):
        return {**one, "annotations": one.get("annotations") or one["completions"]}
    return one


def count_native(tasks: list[Any]) -> int:
    """Number of native judgements of an export, counted without parsing them."""
    number = 0
    for task in tasks:
        annotations = task.get("annotations") if isinstance(task, dict) else None
        if not isinstance(annotations, list) or not annotations:
            number += 1
        else:
            number += sum(count_results(annotation) for annotation in annotations)
    return number


def explain_export(path: Path, dimensions: list[str]) -> str:
    """Remedy for an export that has too few usable judgements, based on its content.

    Args:
        path: a file that ``load_export`` can read.
        dimensions: names of the rubric's dimensions.
    """
    tasks = [task for task in load_export(path) if isinstance(task, dict)]
    if not tasks:
        return "The export has no tasks: export the annotated project as JSON"
    if not any("data" in task for task in tasks):
        if any(key in task for task in tasks for key in JSON_MIN_KEYS):
            return (
                "This is a JSON-MIN export: export the project as JSON, or read this file with "
                "`format: json` and `columns`"
            )
        if any("result" in task for task in tasks):
            return BY_ID
        return (
            "These are tasks for import, without annotations: annotate them in Label Studio, then "
            "export the project as JSON"
        )
    lists = [task.get("annotations") for task in tasks]
    found = [one for some in lists if isinstance(some, list) for one in some]
    listed = [task for task in tasks if any(task.get(key) for key in LISTED)]
    if not any(isinstance(one, dict) for one in found) and (found or listed):
        return BY_ID
    annotations = [one for one in found if isinstance(one, dict) and one.get("result")]
    annotations = [one for one in annotations if isinstance(one["result"], list)]
    if not annotations:
        return _without_annotations(tasks)
    annotations = [one for one in annotations if one.get("was_cancelled") is not True]
    if not annotations:
        return "All annotations of the export were skipped: annotate its tasks, then export again"
    return _about_controls(annotations, dimensions)


def _without_annotations(tasks: list[Any]) -> str:
    predicted = sum(bool(task.get("predictions")) for task in tasks)
    drafted = sum(bool(task.get("drafts")) for task in tasks)
    if drafted:
        return (
            f"No annotation was submitted; {drafted} of {len(tasks)} tasks have drafts. Open them "
            "in Label Studio and press Submit, then export the project again as JSON"
        )
    if predicted:
        return (
            f"{predicted} of {len(tasks)} tasks have model predictions and none has a "
            "human annotation. Predictions are not read as ratings: annotate the tasks in "
            "Label Studio, then export the project again as JSON"
        )
    return (
        f"None of its {len(tasks)} tasks has an annotation: annotate them in Label Studio, then "
        "export the project again as JSON"
    )


def _about_controls(annotations: list[Any], dimensions: list[str]) -> str:
    controls: Counter[tuple[str, str]] = Counter()
    words: Counter[str] = Counter()
    numbers: list[float] = []
    for entry in (entry for one in annotations for entry in one["result"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("from_name"), str):
            continue
        kind = str(entry.get("type"))
        controls[entry["from_name"], kind] += 1
        if kind in SCORE_TYPES:
            answer = native_answer(entry)
            try:
                numbers.append(float(answer))
            except (TypeError, ValueError, OverflowError):
                words[str(answer)] += 1
    listed = ", ".join(f"{name} ({kind})" for (name, kind), _ in controls.most_common(SHOWN))
    parts = [
        f"The controls of the export are {listed or 'without names'}; the rubric's dimensions are "
        f"{', '.join(dimensions)}"
    ]
    unknown = [name for (name, kind), _ in controls.items() if kind in SCORE_TYPES]
    unknown = [name for name in dict.fromkeys(unknown) if name not in dimensions]
    if unknown:
        parts.append(
            "name the dimension of each control in params.yaml (null: not a judgement), such as "
            f"`dimension: {{map: {{{unknown[0]}: {dimensions[0]}}}}}`"
        )
    if words:
        some = ", ".join(f"{word}: .." for word, _ in words.most_common(SHOWN))
        parts.append(
            f"map words to scores: `columns: {{score: {{column: score, words: {{{some}}}}}}}`"
        )
    if numbers:
        parts.append(
            f"scores run from {min(numbers):g} to {max(numbers):g}: declare a scale other than the "
            "rubric's by `scale: {min: .., max: .., higher_is_better: true}`"
        )
    return "; ".join(parts)
