"""What a Label Studio project is made of: labelling config, tasks, and the raw export's records."""

import datetime
import hashlib
import uuid
from typing import Any
from xml.etree import ElementTree

from zreward_core.rubric import Dimension, Rubric
from zreward_core.schemas import digest

EPOCH = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
"""When the simulated work starts; later times follow from durations."""

Record = dict[str, Any]


def labeling_config(rubric: Rubric) -> str:
    """Label Studio labelling config (XML): prompt, image, one choice a dimension.

    The level texts of the rubric appear as hints of the choices.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name="prompt", value="$prompt")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    for dimension in rubric.dimensions:
        _add_choices(view, dimension, rubric.levels)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _add_choices(view: ElementTree.Element, dimension: Dimension, levels: list[float]) -> None:
    title = f"{dimension.title}: {dimension.question}"
    ElementTree.SubElement(view, "Header", value=title, size="5")
    choices = ElementTree.SubElement(
        view,
        "Choices",
        name=dimension.name,
        toName="image",
        choice="single",
        showInline="true",
        required="true",
        requiredMessage=f"Please judge: {dimension.title}",
    )
    for level in levels:
        choice = ElementTree.SubElement(choices, "Choice", value=choice_of(level))
        if level in dimension.levels:
            choice.set("hint", dimension.levels[level])


def choice_of(level: float) -> str:
    """The choice that stands for a level: "3.5", "4"."""
    return f"{level:g}"


def task_data(prompt: str, image_id: str, image_prefix: str) -> Record:
    """A task's data; the image's file name is its image id."""
    return {"prompt": prompt, "image": f"{image_prefix}{image_id}.png"}


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
        started: seconds of the annotator's work before this task.
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
    """Label Studio's form of the time so many seconds after ``EPOCH``."""
    moment = EPOCH + datetime.timedelta(seconds=round(seconds, 3))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
