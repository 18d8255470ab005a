"""The stage evaluate_gsb."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.generator_root import finished_root, root
from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.stages import evaluate_gsb
from zreward_core.stages.evaluate_gsb import Config

__all__ = ["finished_root", "root"]
OUTPUT = Path("data/evaluate_gsb")
CONFIG = Config(seed=5, num_steps=2, samples=2, size=(32, 32), judge="oracle")


def test_a_generator_is_judged_the_same_as_itself(root):
    shutil.copytree("data/base_generator", "data/finetune_generator")
    evaluate_gsb.run(CONFIG)
    result = json.loads((OUTPUT / "gsb.json").read_text())
    assert set(result) == {"overall", "alignment", "realism", "aesthetics", "plausibility"}
    for row in result.values():
        assert row == {"good": 0, "same": 8, "bad": 0, "gsb": 0.0, "low": 0.0, "high": 0.0}
    summary = json.loads((OUTPUT / "summary.json").read_text())
    assert set(summary) == {"good", "same", "bad", "gsb", "gsb_low", "gsb_high"}
    table = pd.read_parquet(OUTPUT / "judgements.parquet")
    assert len(table) == 8
    assert set(table["left"]) == {"base", "tuned"}
    assert (table["left_realism"] == table["right_realism"]).all()


def test_sides_are_drawn_at_random(root):
    """A runs test (Wald and Wolfowitz): alternating sides would have a run for each pair."""
    shutil.copytree("data/base_generator", "data/finetune_generator")
    changes = {"judge": "people", "num_steps": 1, "samples": 50}
    evaluate_gsb.run(CONFIG.model_copy(update=changes))
    table = pd.read_parquet(OUTPUT / "judgements.parquet")
    for order in (table, table.sort_values("pair")):
        tuned_left = (order["left"] == "tuned").to_numpy()
        assert tuned_left.sum() == len(order) / 2 == 100
        runs = 1 + (tuned_left[1:] != tuned_left[:-1]).sum()
        assert abs(runs - 101) < 4 * math.sqrt(100 * 99 / 199)


def test_a_missing_generator_is_named(root):
    with pytest.raises(UserError, match="data/finetune_generator/generator"):
        evaluate_gsb.run(CONFIG)
    assert not OUTPUT.exists()


def test_pairs_for_people_have_no_judgements(root):
    shutil.copytree("data/base_generator", "data/finetune_generator")
    evaluate_gsb.run(CONFIG.model_copy(update={"judge": "people"}))
    result = json.loads((OUTPUT / "gsb.json").read_text())
    empty = {"good": 0, "same": 0, "bad": 0, "gsb": None, "low": None, "high": None}
    assert result == {"overall": empty}
    table = pd.read_parquet(OUTPUT / "judgements.parquet")
    assert len(table) == 8 and not [name for name in table if "verdict" in name]
    images = ImageStore(OUTPUT / "images")
    assert set(table["left_image_id"]) | set(table["right_image_id"]) == set(images)
