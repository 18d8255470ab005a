"""Texts that take long to match or that cannot be written cost themselves, and no more."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zreward_core.annotations.formats.label_studio_results import address_of
from zreward_core.annotations.formats.records import matched
from zreward_core.annotations.ingest.column_settings import as_word
from zreward_core.annotations.ingest.list_cells import _split
from zreward_core.annotations.ingest.references import embedded, readings
from zreward_core.config import UserError

LONG = 200_000
STARS = {
    "format": "jsonl",
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}
LISTS = {"columns": {"image": "img", "annotator_ids": "who", "scores": "stars"}}
UNFOLDED = {
    "columns": {"image": "img", "annotator_id": "answer_1", "score": "answer"},
    "answers": {"columns": "by_(.*)"},
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda text: address_of({"html": text}), "<img " * LONG),
        (lambda text: address_of({"html": text}), "<img " + " src" * LONG),
        (embedded, "iVBORw0KGgo" + " " * LONG + "!"),
        (readings, "a" * LONG + ":"),
        (readings, "/data/local-files/?" * LONG),
        (lambda text: _split(text, None, None), "a" + " " * LONG + "b"),
        (lambda text: _split(text, None, True), "a," + " " * LONG + "b"),
        (as_word, "9" * LONG),
    ],
)
def test_long_texts_take_time_in_proportion(read: Callable[[str], Any], text: str) -> None:
    read(text)


@pytest.mark.timeout(30)
def test_a_pattern_that_backtracks_without_end_is_refused(drops: Path, read) -> None:
    pattern = r"by_(\w|\d|\w\d)+-(.*)"
    assert matched(pattern, "by_1a2b-c")[2] == "c"
    record = {"img": "a.png", "by_" + "1a" * 400: 4}
    (drops / "v.jsonl").write_text(json.dumps(record))
    settings = {**STARS, **UNFOLDED, "answers": {"columns": pattern}}
    with pytest.raises(UserError, match="takes more than 1 s on the name 'by_1a1a"):
        read(drops / "v.jsonl", **settings)


@pytest.mark.parametrize(
    ("record", "settings"),
    [
        ({"who": ["a", "\ud800"], "stars": [4, 3]}, LISTS),
        ({"who": '["a", "\\ud800"]', "stars": [4, 3]}, LISTS),
        ({"by_\ud800": 4, "by_" + chr(0xD801): 3}, UNFOLDED),
    ],
)
def test_lone_surrogates_in_lists_and_keys(drops: Path, read, record: dict, settings: dict) -> None:
    lines = [{"img": "a.png", **record}, {"img": "b.png", "who": ["c"], "stars": [5], "by_c": 5}]
    (drops / "v.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ratings = read(drops / "v.jsonl", **STARS, **settings).ratings
    named = ratings[ratings["annotator_id"].notna()]
    assert sorted(named["score"]) == [3.0, 4.0, 5.0]
    assert r"\ud800" in set(named["annotator_id"])


HOSTILE = {
    "surrogate": "\ud800",
    "name": "x" * 300 + ".png",
    "null byte": "a\0.png",
    "damaged data": "data:image/png,\ud800",
    "up": "../../etc/passwd",
    "large": 10**400,
    "digits": "9" * 5000,
    "mixed": ["a", "\ud800", 1],
    "object": {"\ud800": "\udfff"},
    "deep": json.loads("[" * 400 + "]" * 400),
}


@pytest.mark.parametrize(
    ("value", "column"), list(itertools.product(HOSTILE, ("img", "who", "stars", "prompt")))
)
def test_a_hostile_value_costs_its_own_row(
    drops: Path, read, folder_of_images: Path, value: str, column: str
) -> None:
    good = {"img": "a.png", "who": "w", "stars": 4, "prompt": "a cat"}
    rows = [{**good, column: HOSTILE[value]}, {**good, "who": "v", "img": "b.png"}]
    (drops / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = {"image": "img", "annotator_id": "who", "score": "stars", "prompt": "prompt"}
    result = read(drops / "v.jsonl", **STARS, columns=names, images=folder_of_images)
    assert result.summary.native == 2
    assert "v" in set(result.ratings["annotator_id"])


@pytest.fixture
def folder_of_images(drops: Path) -> Path:
    (drops / "images").mkdir()
    return drops / "images"
