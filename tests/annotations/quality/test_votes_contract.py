"""The contract of pairs by votes: each broken row is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.quality.votes_contract import votes_contract
from zreward_core.rubric import Dimension, Rubric

RUBRIC = Rubric(
    name="r",
    levels=[1, 2, 3],
    labels=["1", "2", "3"],
    dimensions=[Dimension(name="alignment", title="t", question="q", levels={})],
)
ITEMS = pd.DataFrame(
    {
        "item_id": ["x", "y", "z"],
        "dimension": "alignment",
        "prompt_id": ["p", "p", "q"],
        "image_id": ["f" * 64] * 3,
        "split": ["train", "train", "test"],
    }
)
PAIR = {
    "prompt_id": "p",
    "dimension": "alignment",
    "winner": "x",
    "loser": "y",
    "score_w": np.nan,
    "score_l": np.nan,
    "split": "train",
    "vote_share": 0.5,
}


def faults(pair: dict[str, Any], items: pd.DataFrame = ITEMS) -> str:
    frame = pd.DataFrame([PAIR | pair])
    return "\n".join(votes_contract(frame, items, RUBRIC, Path("pairs.parquet")).faults())


def test_a_sound_pair() -> None:
    assert faults({}) == ""


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        ({"dimension": "beauty"}, "dimension is defined in the rubric"),
        ({"score_w": 2.0}, "score_w and score_l are null"),
        ({"vote_share": 0.4}, "vote_share is between 0.5 and 1"),
        ({"vote_share": np.nan}, "vote_share is between 0.5 and 1"),
        ({"loser": "x"}, "winner and loser are different items"),
        ({"loser": "z"}, "prompt_id equals the prompt_id of the loser"),
        ({"winner": "unknown"}, "the winner has an image"),
        ({"split": "test"}, "split equals the split of the winner"),
    ],
)
def test_a_broken_rule_is_named(pair: dict[str, Any], rule: str) -> None:
    assert rule in faults(pair)


def test_a_prompt_in_two_splits() -> None:
    items = ITEMS.assign(split=["train", "test", "test"])
    assert "each prompt is in one split" in faults({}, items)
