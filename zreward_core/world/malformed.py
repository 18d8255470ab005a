"""What goes wrong in real exports, put into a simulated one so that the reader has to cope."""

from typing import Any

from zreward_core.schemas import digest

Record = dict[str, Any]


def _out_of_range(task: Record, result: Record) -> None:
    """The scale of another project."""
    result["value"] = {"choices": ["55"]}


def _missing_value(task: Record, result: Record) -> None:
    """A choice that was cleared again."""
    result["value"] = {"choices": []}


def _unknown_dimension(task: Record, result: Record) -> None:
    """A control of an older labelling config."""
    result["from_name"] = "overall_v1"


def _dangling_image(task: Record, result: Record) -> None:
    """An image that was removed from the storage."""
    task["data"]["image"] = "/data/upload/1/removed.png"


def _truncated_record(task: Record, result: Record) -> None:
    """A record that a script cut."""
    for key in ("from_name", "to_name", "type"):
        del result[key]


KINDS = (_out_of_range, _missing_value, _unknown_dimension, _dangling_image, _truncated_record)


def spoil(tasks: list[Record], num: int, seed: int) -> None:
    """Spoil one result item in each of ``num`` tasks, in place; the kinds take turns.

    Which tasks are hit depends on their data alone. A dangling image concerns the whole task.
    """
    filled = [task for task in tasks if any(one["result"] for one in task["annotations"])]
    ranked = sorted(
        filled,
        key=lambda task: digest(
            "malformed", str(seed), task["data"]["prompt"], task["data"]["image"]
        ),
    )
    for index, task in enumerate(ranked[:num]):
        first = next(one for one in task["annotations"] if one["result"])
        KINDS[index % len(KINDS)](task, first["result"][index % len(first["result"])])
