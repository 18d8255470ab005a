"""Splits Label Studio tasks that show several images into tasks of one image each.

The image of a result item is given by its ``item_index`` (an Image tag with ``valueList`` and
perItem controls), else by the end of its control's name (a Repeater): ``alignment_2`` judges the
third image. `zreward annotate export` writes tasks of the second kind.
"""

import re
from typing import Any

from zreward_core.annotations.formats.label_studio_results import SCORE_TYPES, address_of

_ADDRESS = re.compile(
    r"^(https?:|s3:|gs:|/data/|data:image/)|\.(png|jpe?g|webp|gif|bmp|tiff?|avif)$", re.I
)
MAX_DIGITS = 9
"""Digits of an image's place in a name."""
UNPLACED = -1
"""Place of judgements that do not identify their image among several."""
Record = dict[str, Any]


def one_by_one(tasks: list[Any]) -> list[Any]:
    """Split tasks of several images; all others are returned unchanged.

    Every result item ends up in exactly one task. Entries without a judgement of an image (a
    skipped or empty annotation, a general comment) go to the first one; judgements whose image is
    not known go to a task without an image, marked as ``unplaced``. The time spent is divided
    evenly among the images. Lists in the data that are as long as the list of images are treated
    as parallel to it.
    """
    return [part for task in tasks for part in _parts(task)]


def _parts(task: Any) -> list[Any]:
    data = task.get("data") if isinstance(task, dict) else None
    annotations = task.get("annotations") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return [task]
    images = _images(data, [item for one in annotations for item in _result(one)])
    if images is None:
        return [task]
    by_image: dict[int, list[Any]] = {}
    for annotation in annotations:
        for place, part in _split(annotation, len(images)).items():
            by_image.setdefault(place, []).append(part)
    places = sorted(by_image) or [0]
    return [
        {**_part(task, data, images, place), "annotations": by_image.get(place, [])}
        for place in places
    ]


def _images(data: Record, items: list[Any]) -> list[Any] | None:
    """The list of images of a task; None if the task does not show a list.

    Without a key `images` or `image`, this is the only list of image addresses. For items with an
    index it is otherwise a list of unknown entries (None), as long as all lists of the data; it is
    empty if there are no lists.
    """
    lists = {key: value for key, value in data.items() if isinstance(value, list) and value}
    for key in ("images", "image"):
        if key in lists:
            return lists[key]
    shown = [one for one in lists.values() if all(map(_is_address, one))]
    if any(_index(item) is not None for item in items):
        if len(shown) == 1:
            return shown[0]
        lengths = {len(one) for one in lists.values()}
        if lengths:
            return [None] * lengths.pop() if len(lengths) == 1 else []
        return [data["image"]] if isinstance(data.get("image"), str) else []
    judged = any(isinstance(one, dict) and one.get("type") in SCORE_TYPES for one in items)
    single = any(isinstance(value, str) and _is_address(value) for value in data.values())
    return shown[0] if judged and len(shown) == 1 and not single else None


def _is_address(entry: Any) -> bool:
    address = address_of(entry)
    return isinstance(address, str) and bool(_ADDRESS.search(address))


def _part(task: Record, data: Record, images: list[Any], place: int) -> Record:
    """The task of one of its images."""
    if place == UNPLACED:
        data = {**data, "image": None}
        unknown = {"id": f"{task.get('id')} unknown image", "data": data, "unplaced": True}
        return {**task, **unknown}
    if not images:
        return task
    parallel = {
        key: value[place]
        for key, value in data.items()
        if isinstance(value, list) and len(value) == len(images)
    }
    entry = images[place]
    own = entry if isinstance(entry, dict) else {}
    return {
        **task,
        "id": f"{task.get('id')} image {place + 1}",
        "data": {**data, **parallel, **own, "image": address_of(entry)},
        "whole": data,
    }


def _split(annotation: Any, num_images: int) -> dict[int, Any]:
    """The parts of an annotation by image."""
    result = _result(annotation)
    if not result or annotation.get("was_cancelled") is True:
        return {0: annotation}
    items: dict[int, list[Any]] = {}
    for item in result:
        place, renamed = _place(item, num_images)
        items.setdefault(place, []).append(renamed)
    seconds = annotation.get("lead_time")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    share = seconds / max(1, len(items.keys() - {UNPLACED})) if timed else seconds
    return {
        place: {**annotation, "result": part, "lead_time": share} for place, part in items.items()
    }


def _result(annotation: Any) -> list[Any]:
    result = annotation.get("result") if isinstance(annotation, dict) else None
    return result if isinstance(result, list) else []


def _index(item: Any) -> int | None:
    index = item.get("item_index") if isinstance(item, dict) else None
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _place(item: Any, num_images: int) -> tuple[int, Any]:
    """The image that a result item judges, and the item with the control's plain name."""
    name = item.get("from_name") if isinstance(item, dict) else None
    if not isinstance(name, str):
        return 0, item
    index = _index(item)
    if index is not None:
        return (index if 0 <= index < num_images else UNPLACED), item
    if item.get("type") not in SCORE_TYPES:
        return _place_of_name(name, num_images)[0] or 0, item
    place, plain = _place_of_name(name, num_images)
    if place is not None:
        return place, {**item, "from_name": plain}
    return (0 if num_images == 1 else UNPLACED), item


def _place_of_name(name: str, num_images: int) -> tuple[int | None, str]:
    plain, _, suffix = name.rpartition("_")
    known = suffix.isdecimal() and suffix.isascii() and len(suffix) <= MAX_DIGITS
    if not plain or not known or int(suffix) >= num_images:
        return None, name
    return int(suffix), plain
