"""Result items of Label Studio annotations: their kinds and answers.

A native judgement is one result item; a ranking of n images is n (n - 1) / 2 of them, one for each
pair of images.

Tags: https://labelstud.io/tags
"""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

LARGEST = 1e300
"""JSON integers can be too large for a float."""
SCORE_TYPES = ("choices", "rating", "number")
"""Result types with a score."""
ANSWER_TYPES = (*SCORE_TYPES, "pairwise")
"""Result types with one answer."""
_REGION = re.compile(
    r"\w*(rectangle|polygon|brush|keypoint|ellipse|vector|bitmask|magicwand|cuboid)\w*|\w*labels"
)
_EVENT = re.compile(r"textarea|relation|datetime|chatmessage|reactcode")
"""Result types without a judgement. An unknown type counts as a judgement that is not read."""
REGION_KEYS = frozenset(("x", "y", "points", "vertices", "rle", "start", "end", "sequence"))
"""Keys of a result's value that identify the part of an object that it refers to."""
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
"""Answers of a pairwise control (only left and right) or of choices next to it, in lower case."""
ADDRESSES = ("image", "url", "src", "image_url")
"""Keys of an image's address in an object."""
_IN_HTML = re.compile(r"<img\b[^<>]*?\bsrc\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.I)

Record = dict[str, Any]
Answer = tuple[Record, str | None]
"""Columns of a judgement, and its fault."""


def is_event(kind: str) -> bool:
    """Whether results of a type are not judgements."""
    return bool(_REGION.fullmatch(kind) or _EVENT.fullmatch(kind))


def region_ids(result: list[Any]) -> set[str]:
    """Ids of the regions that an annotation has marked."""
    kinds = [(one.get("id"), one.get("type")) for one in result if isinstance(one, dict)]
    return {
        name
        for name, kind in kinds
        if isinstance(name, str) and isinstance(kind, str) and _REGION.fullmatch(kind)
    }


def is_of_region(entry: Record, regions: set[str]) -> bool:
    """Whether a result judges a region (a perRegion control), not the image."""
    value = entry.get("value")
    about = isinstance(value, dict) and not REGION_KEYS.isdisjoint(value)
    return about or (isinstance(entry.get("id"), str) and entry["id"] in regions)


def count_results(annotation: Any) -> int:
    """Number of native judgements of an annotation; 1 if it has none."""
    result = annotation.get("result") if isinstance(annotation, dict) else None
    if not isinstance(result, list):
        return 1
    return max(1, sum(_count_pairs(entry) for entry in result))


def _count_pairs(entry: Any) -> int:
    ranked = ranking_of(entry)
    return max(1, len(ranked) * (len(ranked) - 1) // 2) if ranked else 1


def ranking_of(entry: Any) -> list[Any] | None:
    """The ids of a ranking, best first; None if the result is not one.

    Without buckets, the list is named after its control. Buckets have no order among themselves, so
    they are not a ranking.
    """
    if not isinstance(entry, dict) or entry.get("type") != "ranker":
        return None
    if not isinstance(entry.get("from_name"), str):
        return None
    value = entry.get("value")
    ranked = value.get("ranker") if isinstance(value, dict) else None
    if isinstance(ranked, dict):
        names = set(ranked)
        ranked = ranked[names.pop()] if names in ({"rank"}, {entry.get("from_name")}) else None
    return ranked if isinstance(ranked, list) and ranked else None


def comparisons_of(ranked: list[Any], data: Record) -> Iterator[Answer]:
    """A comparison for each pair of images of a ranking; the higher one is image_a."""
    names = [str(one) for one in ranked]
    entries = _entries(names, data)
    if len(names) < 2:
        yield {}, "missing_value"
    for first, second in combinations(names, 2):
        row: Record = {"vote": "a"}
        for side, name in (("a", first), ("b", second)):
            row[f"image_{side}"] = address_of(entries.get(name))
            row[f"generator_{side}"] = identifier(_generator(entries.get(name)))
        known = first != second and row["image_a"] and row["image_b"]
        yield row, None if known else "unknown_image"


def _entries(names: list[str], data: Record) -> dict[str, Any]:
    """Id to list entry of the task's list that contains the ranked ids."""
    for listed in data.values():
        if isinstance(listed, list):
            keyed = [(one.get("id") if isinstance(one, dict) else one, one) for one in listed]
            found = {str(name): one for name, one in keyed if isinstance(name, str | int)}
            if len(found) == len(listed) and not found.keys().isdisjoint(names):
                return found
    return {}


def address_of(entry: Any) -> Any:
    """Address of an image: a string, or an object with an address or HTML that shows it."""
    if not isinstance(entry, dict):
        return entry
    found = next((entry[key] for key in ADDRESSES if entry.get(key)), None)
    if found is None:
        texts = [entry[key] for key in ("html", "body") if isinstance(entry.get(key), str)]
        shown = [match for text in texts for match in _IN_HTML.findall(text)]
        found = "".join(shown[0]) if len(shown) == 1 else None
    return found


def _generator(entry: Any) -> Any:
    return entry.get("generator", entry.get("model")) if isinstance(entry, dict) else None


def native_answer(entry: Record) -> Any:
    """The native answer of choices, stars or a number; None if it is missing."""
    kind, value = entry["type"], entry.get("value")
    answer = value.get(kind) if isinstance(value, dict) else None
    if isinstance(answer, list) and len(answer) <= 1:
        answer = answer[0] if answer else None
    return answer


def score_of(entry: Record) -> Answer:
    """The score of a result (None: missing), and its fault."""
    if not isinstance(entry.get("value"), dict | None):
        return {}, "malformed_record"
    answer = native_answer(entry)
    too_large = isinstance(answer, int) and abs(answer) > LARGEST
    return ({}, "malformed_record") if too_large else ({"score": answer}, None)


def vote_of(entry: Record) -> Record:
    """The answer of a comparison (None: missing); known words in lower case."""
    value = entry.get("value")
    answer = value.get("selected", value.get("choices")) if isinstance(value, dict) else None
    if isinstance(answer, list) and len(answer) <= 1:
        answer = answer[0] if answer else None
    if isinstance(answer, str) and answer.casefold().strip() in VOTES:
        answer = answer.casefold().strip()
    return {"vote": answer}


def identifier(value: Any) -> str | None:
    """A name or a number as text."""
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if usable else None
