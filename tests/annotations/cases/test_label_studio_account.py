"""Damaged Label Studio exports: the account equals the count of a second, simpler reader."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.formats.label_studio_export import explain_export
from zreward_core.annotations.ingest.settings import Source
from zreward_core.rubric import Rubric

JUNK = [None, 1, True, "x", "", [], {}, ["a"], {"id": 1}, 10**400, ["a.png"], float("inf")]
VALUES: dict[str, list[Any]] = {
    "choices": [{"choices": ["3"]}, {"choices": ["Good"]}, {"choices": ["tie"]}],
    "rating": [{"rating": 3}, {"rating": 9}, {"rating": 2, "x": 1, "y": 1}],
    "pairwise": [{"selected": "left"}],
    "ranker": [{"ranker": ["m0", "m1", "m0"]}, {"ranker": {"a": ["m0"], "b": ["m1"]}}],
    "taxonomy": [{"taxonomy": [["a"]]}],
    "textarea": [{"text": ["x"]}],
    "rectanglelabels": [{"x": 1, "rectanglelabels": ["a"]}],
}
DATA = [
    {"prompt": "a", "image": "a.png"},
    {"prompt": "a", "images": ["a.png", "b.png"]},
    {"prompt": "a", "items": [{"id": "m0", "image": "a.png"}, {"id": "m1", "image": "b.png"}]},
    {"prompt": "a", "image_a": "a.png", "image_b": "b.png"},
    {"prompt": "a", "pictures": ["a.png", "b.png"], "captions": ["x", "y"]},
]


def tasks_of(rng: random.Random) -> list[Any]:
    def damaged(value: Any, share: float = 0.08) -> Any:
        return rng.choice(JUNK) if rng.random() < share else value

    def result() -> Any:
        kind = rng.choice(list(VALUES))
        name = rng.choice(["alignment", "realism_1", "quality"])
        entry = {"id": rng.choice("abc"), "type": damaged(kind), "from_name": damaged(name)}
        entry["value"] = damaged(rng.choice(VALUES[kind]))
        return damaged(
            entry | ({"item_index": rng.choice([0, 1, 5])} if rng.random() < 0.3 else {})
        )

    def annotation(number: int) -> Any:
        results = damaged([result() for _ in range(rng.randint(0, 4))])
        skipped = rng.random() < 0.1
        return damaged({"id": number, "completed_by": 1, "result": results, "skipped": skipped})

    def task(number: int) -> Any:
        annotations = [annotation(n) for n in range(rng.randint(0, 3))] * rng.choice([1, 1, 2])
        key = rng.choice(["annotations", "completions"])
        data = damaged(rng.choice(DATA))
        return damaged({"id": number, "data": data, key: damaged(annotations), "drafts": []})

    return [task(rng.randint(0, 2)) for _ in range(5)]


def count(tasks: list[Any]) -> int:
    """Native judgements; a ranking of three is three comparisons."""
    number = 0
    for task in tasks:
        known = task if isinstance(task, dict) else {}
        found = known.get("annotations", known.get("completions"))
        annotations = found if isinstance(found, list) and found else [None]
        for one in annotations:
            results = one.get("result") if isinstance(one, dict) else None
            entries = results if isinstance(results, list) and results else [None]
            for entry in entries:
                whole = isinstance(entry, dict) and isinstance(entry.get("from_name"), str)
                ranked = whole and entry.get("type") == "ranker"
                number += 3 if ranked and entry.get("value") == VALUES["ranker"][0] else 1
    return number


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost(drops: Path, default_rubric: Rubric, seed: int) -> None:
    path = drops / "export.json"
    path.write_text(json.dumps(tasks_of(random.Random(seed))))
    read = Read(Source(name="ls", path=path, images=None), default_rubric, [path])
    assert read.summary.native == count(json.loads(path.read_text()))
    assert explain_export(path, default_rubric.names)
