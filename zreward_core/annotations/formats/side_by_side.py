"""Splits Label Studio tasks that show all images of a prompt into tasks of one image each.

`zreward annotate export` writes such tasks: ``data.images`` is a list, and the name of a repeated
control ends with the index of its image (from 0): ``alignment_2`` judges ``image_2``.
"""

from typing import Any

Record = dict[str, Any]


def one_by_one(tasks: list[Any]) -> list[Any]:
    """Split tasks of several images; all others are returned unchanged.

    Every result item ends up in exactly one task. Entries without an image (a skipped or empty
    annotation, a general comment) go to the first one. The time spent is divided evenly.
    """
    return [part for task in tasks for part in _parts(task)]


def _parts(task: Any) -> list[Any]:
    data = task.get("data") if isinstance(task, dict) else None
    images = data.get("images") if isinstance(data, dict) else None
    annotations = task.get("annotations") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(images, list) or not images:
        return [task]
    if not isinstance(annotations, list):
        return [task]
    by_image: dict[int, list[Any]] = {}
    for annotation in annotations:
        for place, part in _split(annotation, len(images)).items():
            by_image.setdefault(place, []).append(part)
    places = sorted(by_image) or [0]
    return [
        {
            **task,
            "id": f"{task.get('id')} image {place + 1}",
            "data": {**data, "image": _reference(images[place])},
            "annotations": by_image.get(place, []),
        }
        for place in places
    ]


def _split(annotation: Any, num_images: int) -> dict[int, Any]:
    """The parts of an annotation by image."""
    result = annotation.get("result") if isinstance(annotation, dict) else None
    if not isinstance(result, list) or not result or annotation.get("was_cancelled") is True:
        return {0: annotation}
    items: dict[int, list[Any]] = {}
    for item in result:
        place, renamed = _place(item, num_images)
        items.setdefault(place, []).append(renamed)
    seconds = annotation.get("lead_time")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    share = seconds / len(items) if timed else seconds
    return {
        place: {**annotation, "result": part, "lead_time": share} for place, part in items.items()
    }


def _place(item: Any, num_images: int) -> tuple[int, Any]:
    """The image that a result item judges, and the item with the control's plain name."""
    name = item.get("from_name") if isinstance(item, dict) else None
    if not isinstance(name, str):
        return 0, item
    plain, _, suffix = name.rpartition("_")
    if not plain or not suffix.isdecimal() or not suffix.isascii() or int(suffix) >= num_images:
        return 0, item
    return int(suffix), {**item, "from_name": plain}


def _reference(image: Any) -> Any:
    """The image's address: a string, or an object with one."""
    return image.get("image", image.get("url")) if isinstance(image, dict) else image
