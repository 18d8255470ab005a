"""Malformed records as in real exports, inserted into a simulated one."""

from typing import Any

from zreward_core.schemas import digest

Record = dict[str, Any]


def _out_of_range(task: Record, result: Record) -> None:
    """A score on the scale of another project."""
    result["value"] = {"choices": ["55"]}


def _missing_value(task: Record, result: Record) -> None:
    """A choice that was cleared."""
    result["value"] = {"choices": []}


def _unknown_dimension(task: Record, result: Record) -> None:
    """A control of an older labelling config."""
    result["from_name"] = "overall_v1"


def _dangling_image(task: Record, result: Record) -> None:
    """An image that was removed from storage."""
    task["data"]["image"] = "/data/upload/1/removed.png"


def _truncated_record(task: Record, result: Record) -> None:
    """A record truncated by a script."""
    for key in ("from_name", "to_name", "type"):
        del result[key]


KINDS = (_out_of_range, _missing_value, _unknown_dimension, _dangling_image, _truncated_record)


def corrupt(tasks: list[Record], num: int, seed: int) -> None:
    """Corrupt one result item in each of ``num`` tasks, in place; the kinds alternate.

    The choice of tasks depends on their data alone. A dangling image affects the whole task.
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
