"""Records of a raw Label Studio export, written for the simulated annotators."""

import datetime
import hashlib
import uuid
from typing import Any

from zreward_core.schemas import digest

EPOCH = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
"""Start of the simulated work; later times follow from durations."""

Record = dict[str, Any]


def result_item(dimension: str, choice: str, *identity: str) -> Record:
    """One judgement in the result of an annotation."""
    return {
        "id": digest("result", dimension, *identity)[:10],
        "from_name": dimension,
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": [choice]},
    }


def annotation(
    number: int,
    task: int,
    annotator: int,
    result: list[Record],
    cancelled: bool,
    seconds: float,
    started: float,
    verbose_annotator: bool,
) -> Record:
    """One annotation of a raw export.

    Args:
        number: id of the annotation.
        task: id of its task.
        annotator: id of the annotator.
        result: result items; empty where the task was skipped.
        cancelled: the annotator skipped the task.
        seconds: time spent.
        started: seconds that the annotator has worked before this task.
        verbose_annotator: write ``completed_by`` as an object, as some exports do.
    """
    person = {
        "id": annotator,
        "email": f"annotator{annotator}@example.org",
        "first_name": "",
        "last_name": "",
    }
    finished = timestamp(started + seconds)
    unique = hashlib.sha256(f"annotation {number} {task} {annotator}".encode()).digest()[:16]
    return {
        "id": number,
        "completed_by": person if verbose_annotator else annotator,
        "result": result,
        "was_cancelled": cancelled,
        "ground_truth": False,
        "created_at": finished,
        "updated_at": finished,
        "draft_created_at": None,
        "lead_time": round(seconds, 3),
        "prediction": {},
        "result_count": len(result),
        "unique_id": str(uuid.UUID(bytes=unique, version=4)),
        "import_id": None,
        "last_action": None,
        "bulk_created": False,
        "task": task,
        "project": 1,
        "updated_by": annotator,
        "parent_prediction": None,
        "parent_annotation": None,
        "last_created_by": None,
    }


def export_task(number: int, data: Record, annotations: list[Record]) -> Record:
    """One task of a raw export with its annotations."""
    num_cancelled = sum(bool(one["was_cancelled"]) for one in annotations)
    created = timestamp(0.0)
    return {
        "id": number,
        "annotations": annotations,
        "file_upload": "tasks.json",
        "drafts": [],
        "predictions": [],
        "data": data,
        "meta": {},
        "created_at": created,
        "updated_at": max([created, *(one["updated_at"] for one in annotations)]),
        "allow_skip": True,
        "inner_id": number,
        "total_annotations": len(annotations) - num_cancelled,
        "cancelled_annotations": num_cancelled,
        "total_predictions": 0,
        "comment_count": 0,
        "unresolved_comment_count": 0,
        "last_comment_updated_at": None,
        "project": 1,
        "updated_by": annotations[-1]["updated_by"] if annotations else None,
        "comment_authors": [],
    }


def timestamp(seconds: float) -> str:
    """The time a number of seconds after ``EPOCH``, as Label Studio writes it."""
    moment = EPOCH + datetime.timedelta(seconds=round(seconds, 3))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
