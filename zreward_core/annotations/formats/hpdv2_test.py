"""HPDv2's test set: rankings of several images, each by several raters.

A ranking of n images is read as n (n - 1) / 2 comparisons, as its authors count them (153k); a
lower rank is better. Source:
https://github.com/tgxs002/HPSv2, README.md: {"prompt", "image_path": [..], "rank": [..] (averaged),
"raw_annotations": [{"rank": [..], "user_hash"}]}; some copies have "raw_annotation".
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.json_records import load_json
from zreward_core.annotations.formats.records import Records, Wanted, batches_of


def read_hpdv2_test(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a record per rater and pair: prompt, image_a, image_b, user_hash, vote."""
    content = load_json(path, wanted)
    entries = list(content.values()) if isinstance(content, dict) else content
    return batches_of(_numbered(entries), wanted, "record")


def _numbered(entries: list[Any]) -> Iterator[tuple[int, Any]]:
    for number, entry in enumerate(entries, start=1):
        images = entry.get("image_path") if isinstance(entry, dict) else None
        raters = _raters(entry) if isinstance(entry, dict) else None
        if not isinstance(images, list) or not isinstance(raters, list):
            yield number, [entry]
            continue
        for rater in raters:
            ranks = rater.get("rank") if isinstance(rater, dict) else None
            if not isinstance(ranks, list) or len(ranks) != len(images):
                yield number, [rater]
                continue
            shared = {"prompt": entry.get("prompt"), "user_hash": rater.get("user_hash")}
            for first, second in combinations(range(len(images)), 2):
                pair = {"image_a": images[first], "image_b": images[second]}
                yield number, {**shared, **pair, "vote": _vote(ranks[first], ranks[second])}


def _raters(entry: dict[str, Any]) -> Any:
    return entry.get("raw_annotations", entry.get("raw_annotation"))


def _vote(first: Any, second: Any) -> str | None:
    if not isinstance(first, int | float) or not isinstance(second, int | float):
        return None
    return "tie" if first == second else "a" if first < second else "b"
