"""Items of every split, worked by hand."""

import pandas as pd
import pytest

from zreward_core.annotations.items.building import belong_to, describe_items, make_items
from zreward_core.config import Splits
from zreward_core.rubric import Rubric
from zreward_core.schemas import OPINIONS

SCORES = [1.0, 2.0, 2.5, 5.0]
NO_OPINIONS = pd.DataFrame(columns=OPINIONS.names)


@pytest.fixture
def facts() -> pd.DataFrame:
    """One item per split."""
    names = ["train", "validation", "test"]
    rows = {"prompt_id": names, "prompt": names, "image_id": [None] * 3, "split": names}
    return pd.DataFrame(rows, index=pd.Index(names, name="item_id"))


@pytest.fixture
def ratings() -> pd.DataFrame:
    rows = [
        (split, "alignment", score, split)
        for split in ("train", "validation", "test")
        for score in SCORES
    ]
    return pd.DataFrame(rows, columns=["item_id", "dimension", "score", "split"])


@pytest.mark.parametrize(("trim_test", "test_score"), [(True, 2.25), (False, 2.625)])
def test_only_test_items_are_trimmed(
    ratings: pd.DataFrame, facts: pd.DataFrame, rubric: Rubric, trim_test: bool, test_score: float
) -> None:
    items, _ = make_items(ratings, NO_OPINIONS, facts, rubric, trim_test, 3)
    scores = items.set_index("split")["score"].to_dict()
    assert scores == {"train": 2.625, "validation": 2.625, "test": test_score}
    assert items["num_ratings"].tolist() == [4, 4, 4]


def test_test_items_need_enough_ratings(
    ratings: pd.DataFrame, facts: pd.DataFrame, rubric: Rubric
) -> None:
    items, num_dropped = make_items(ratings, NO_OPINIONS, facts, rubric, True, 5)
    assert sorted(items["split"]) == ["train", "validation"] and num_dropped == 1
    coded = ratings.astype({"item_id": "category", "dimension": "category"})
    assert belong_to(coded, items).tolist() == [True] * 8 + [False] * 4


def test_an_item_is_described_by_its_first_judgement() -> None:
    columns = ["item_id", "prompt_id", "prompt", "image_id"]
    ratings = pd.DataFrame([("a", "p", "one", "x"), ("a", "p", "One", "x")], columns=columns)
    opinions = pd.DataFrame([("a", "p", "two", "y"), ("b", "q", "three", "z")], columns=columns)
    described = describe_items(ratings, opinions, Splits(train=0.999, validation=0.0))
    assert described["prompt"].to_dict() == {"a": "one", "b": "three"}
    assert described["split"].tolist() == ["train", "train"]
