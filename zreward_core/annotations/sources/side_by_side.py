"""Label Studio tasks that show all pictures of a prompt at once, as tasks of one picture each.

`zreward annotate export` writes such tasks: ``data.images`` is a list, and a repeated control
carries the place of its picture (from 0) behind its name, ``alignment_2`` judging ``image_2``.
"""

from typing import Any

Record = dict[str, Any]


def one_by_one(tasks: list[Any]) -> list[Any]:
    """Tasks of several pictures taken apart; all others are returned as they are.

    Every result item lands in exactly one task. What belongs to no picture (a skipped or empty
    annotation, a comment on the whole) stays with the first one. The time spent is shared evenly.
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
    by_picture: dict[int, list[Any]] = {}
    for annotation in annotations:
        for place, part in _split(annotation, len(images)).items():
            by_picture.setdefault(place, []).append(part)
    places = sorted(by_picture) or [0]
    return [
        {
            **task,
            "id": f"{task.get('id')} picture {place + 1}",
            "data": {**data, "image": _reference(images[place])},
            "annotations": by_picture.get(place, []),
        }
        for place in places
    ]


def _split(annotation: Any, num_pictures: int) -> dict[int, Any]:
    """An annotation's parts by picture."""
    result = annotation.get("result") if isinstance(annotation, dict) else None
    if not isinstance(result, list) or not result or annotation.get("was_cancelled") is True:
        return {0: annotation}
    items: dict[int, list[Any]] = {}
    for item in result:
        place, renamed = _place(item, num_pictures)
        items.setdefault(place, []).append(renamed)
    seconds = annotation.get("lead_time")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    share = seconds / len(items) if timed else seconds
    return {
        place: {**annotation, "result": part, "lead_time": share} for place, part in items.items()
    }


def _place(item: Any, num_pictures: int) -> tuple[int, Any]:
    """Which picture a result item judges, and the item under the control's plain name."""
    name = item.get("from_name") if isinstance(item, dict) else None
    if not isinstance(name, str):
        return 0, item
    plain, _, suffix = name.rpartition("_")
    if not plain or not suffix.isdecimal() or not suffix.isascii() or int(suffix) >= num_pictures:
        return 0, item
    return int(suffix), {**item, "from_name": plain}


def _reference(image: Any) -> Any:
    """The picture's address: a text, or an object that holds it."""
    return image.get("image", image.get("url")) if isinstance(image, dict) else image
