"""Alpha of public tables of human ratings, against values computed elsewhere."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.quality.agreement import alpha_interval, ordinal_alpha

DATA = Path(os.environ.get("ZREWARD_SHARED_DATA", Path(__file__).parents[4] / "shared/data"))


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is absent; ZREWARD_SHARED_DATA names its parent")
    return DATA / name


def check(units: list, scores: list, expected: float) -> None:
    codes, values = pd.factorize(pd.Series(units))[0], np.array(scores, dtype=float)
    assert ordinal_alpha(codes, values) == pytest.approx(expected, abs=0.0006)
    low, high = alpha_interval(codes, values, seed=1, num_resamples=400)
    assert low < expected < high and high - low < 0.1


def test_dsg() -> None:
    table = pd.read_csv(folder("dsg") / "tifa160-likert-anns.csv")
    check((table["item_id"] + table["t2i_model"]).tolist(), table["answer"].tolist(), 0.685)


def test_genai_bench() -> None:
    prompts = json.loads((folder("genai_bench") / "genai_image.json").read_text())
    cells = [
        (f"{number} {model}", score)
        for number, entry in prompts.items()
        for model, scores in entry["models"].items()
        for score in scores
        if 1 <= score <= 5
    ]
    check([unit for unit, _ in cells], [score for _, score in cells], 0.715)


@pytest.mark.parametrize(("place", "expected"), [(0, 0.601), (1, 0.442)])
def test_imagenhub(place: int, expected: float) -> None:
    units, scores = [], []
    for file in sorted(folder("imagenhub").glob("*.tsv")):
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                item, *cells = row.items()
                for model, cell in cells:
                    units.append(f"{item[1]} {model}")
                    scores.append(json.loads(cell)[place])
    check(units, scores, expected)
