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
        ({"dimension": "beauty"}, "one of the rubric's"),
        ({"score_w": 2.0}, "has no scores"),
        ({"vote_share": 0.4}, "at least half of the votes"),
        ({"vote_share": np.nan}, "at least half of the votes"),
        ({"loser": "x"}, "nothing wins against itself"),
        ({"loser": "z"}, "prompt_id is prompt_id_of_loser"),
        ({"winner": "unknown"}, "the winner has an image"),
        ({"split": "test"}, "split is split_of_winner"),
    ],
)
def test_a_broken_rule_is_named(pair: dict[str, Any], rule: str) -> None:
    assert rule in faults(pair)


def test_a_prompt_in_two_splits() -> None:
    items = ITEMS.assign(split=["train", "test", "test"])
    assert "splits never share a prompt" in faults({}, items)
