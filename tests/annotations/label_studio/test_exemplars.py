"""Exemplars are collected evenly; faults of the list name the entry."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zreward_core.annotations.label_studio.exemplar_sheet import exemplar_sheet
from zreward_core.annotations.label_studio.exemplars import (
    Exemplar,
    collect,
    load_exemplars,
    pick_levels,
    write_exemplars,
)
from zreward_core.config import UserError
from zreward_core.images import decode, encode_png
from zreward_core.rubric import Rubric


def test_only_clear_scores_of_levels_in_need_count(rubric: Rubric) -> None:
    scores = {"alignment": 3.1, "realism": 4.22}
    assert pick_levels(scores, Counter(), rubric, 1) == {"alignment": 3.0}, "4.22 is in between"
    assert pick_levels(scores, Counter({("alignment", 3.0): 1}), rubric, 1) == {}


def test_collect_fills_every_level_and_stops(rubric: Rubric) -> None:
    rng = np.random.default_rng(1)
    samples = [dict(zip(rubric.names, rng.uniform(1, 5, 2), strict=True)) for _ in range(2000)]
    found = collect(samples, lambda sample: sample, rubric, 2, 2000)
    counts = Counter(pair for _, levels in found for pair in levels.items())
    assert len(counts) == 18 and set(counts.values()) == {2}
    assert len(collect(samples, lambda sample: sample, rubric, 2, 5)) <= 5
    assert collect(samples, lambda sample: sample, rubric, 0, 0) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = encode_png(np.full((4, 8, 3), (200, 0, 0), np.uint8))
    exemplar = Exemplar(image="1.png", prompt="a cat", scores={"realism": 2.5})
    write_exemplars([(exemplar, content)], tmp_path / "exemplars")
    return tmp_path / "exemplars"


def test_what_was_written_is_read(folder: Path, rubric: Rubric) -> None:
    (exemplar,) = load_exemplars(folder, rubric)
    assert exemplar.scores == {"realism": 2.5}
    contents = {"1.png": (folder / "1.png").read_bytes()}
    sheet = decode(exemplar_sheet(rubric, "realism", [exemplar], contents))
    assert (sheet == (200, 0, 0)).all(axis=-1).sum() == 126 * 62, "one tile of 128 x 64, framed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "2.png"}, "entry 1 (2.png): no such file"),
        ({"image": "../1.png"}, "no such file"),
        ({"scores": {"beauty": 3}}, "no dimension 'beauty'; it has alignment, realism"),
        ({"scores": {"realism": 2.7}}, "2.7 is not a level"),
        ({"scores": "high"}, "entry 1: scores:"),
        ({"colour": "red"}, "entry 1: colour:"),
    ],
)
def test_faults_name_file_and_entry(
    folder: Path, rubric: Rubric, change: dict, message: str
) -> None:
    file = folder / "exemplars.json"
    (row,) = json.loads(file.read_text())
    file.write_text(json.dumps([row | change]))
    with pytest.raises(UserError) as caught:
        load_exemplars(folder, rubric)
    assert str(file) in str(caught.value) and message in str(caught.value)
