"""Pairs by votes: one vote per annotator, the majority wins, equal shares tie."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.items.votes import (
    unscored_comparisons,
    unscored_items,
    voted_pairs,
)

DEFAULT = {"dimension": "alignment", "source": "s", "row_ref": "s#1"}


def comparisons(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item_a", "item_b", "vote", "annotator_id"])
    return frame.assign(**DEFAULT)


def facts(**prompts: str | None) -> pd.DataFrame:
    rows = {
        item: {"prompt_id": prompt, "prompt": prompt, "image_id": item * 64, "split": "train"}
        for item, prompt in prompts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def shares(frame: pd.DataFrame, how: str = "average") -> dict:
    pairs, _ = voted_pairs(frame, facts(x="p", y="p", z="p"), how)
    assert pairs[["score_w", "score_l"]].isna().all(axis=None)
    return {(one.winner, one.loser): one.vote_share for one in pairs.itertuples()}


def test_votes_in_either_order_are_counted_together() -> None:
    found = shares(comparisons(("x", "y", "a", "1"), ("y", "x", "b", "2"), ("x", "y", "b", "3")))
    assert found == {("x", "y"): pytest.approx(2 / 3)}
    assert shares(comparisons(("x", "y", "b", "1"), ("z", "y", "b", "1"))) == {
        ("y", "x"): 1.0,
        ("y", "z"): 1.0,
    }


@pytest.mark.parametrize(
    "rows",
    [
        [("y", "x", "tie", "1")],
        [("y", "x", "both_bad", "1")],
        [("x", "y", "a", "1"), ("x", "y", "b", "2")],
        [("x", "y", "a", None), ("x", "y", "tie", "2"), ("x", "y", "b", "3")],
    ],
)
def test_equal_shares_are_a_tie(rows: list[tuple]) -> None:
    assert shares(comparisons(*rows)) == {("x", "y"): 0.5}


def test_an_annotator_has_one_vote_per_pair() -> None:
    rows = [("x", "y", "a", "1"), ("x", "y", "a", "1"), ("y", "x", "a", "1"), ("y", "x", "a", "2")]
    # annotator 1: two thirds for x; annotator 2: y
    assert shares(comparisons(*rows)) == {("y", "x"): pytest.approx(2 / 3)}
    assert shares(comparisons(*rows), "last") == {("y", "x"): 1.0}
    assert shares(comparisons(*rows), "keep") == {("x", "y"): 0.5}
    pairs, counts = voted_pairs(comparisons(*rows), facts(x="p", y="p"), "average")
    assert (counts["repeated"], counts["contradicting"], len(pairs)) == (2, 1, 1)
    anonymous = comparisons(*[(*row[:3], None) for row in rows])
    assert voted_pairs(anonymous, facts(x="p", y="p"), "average")[1]["repeated"] == 0


def test_comparisons_that_make_no_pair_are_counted() -> None:
    rows = comparisons(
        ("x", "y", "a", "1"), ("x", "o", "a", "1"), ("x", "q", "a", "1"), ("x", "x", "tie", "1"),
        ("x", "n", "a", "1"),
    )  # fmt: skip
    known = facts(x="p", y="p", o="other", q=None)
    pairs, counts = voted_pairs(rows, known, "average")
    assert len(pairs) == 1
    assert counts == {
        "without_prompt_or_image": 2,
        "different_prompts": 1,
        "same_image": 1,
        "repeated": 0,
        "contradicting": 0,
    }


def test_only_comparisons_with_an_unscored_image_are_used() -> None:
    rows = comparisons(("x", "y", "a", "1"), ("x", "z", "a", "1"), ("y", "x", "a", "1"))
    items = pd.DataFrame({"item_id": ["x", "y", "z"], "dimension": ["alignment"] * 2 + ["realism"]})
    assert unscored_comparisons(rows, items).index.tolist() == [1]
    known = facts(x="p", y="p", z="p")
    pairs, _ = voted_pairs(rows.iloc[[1]], known, "average")
    found = unscored_items(pairs, items, known)
    assert found[["item_id", "dimension", "num_ratings"]].to_numpy().tolist() == [
        ["z", "alignment", 0]
    ]
    assert np.isnan(found["score"][0]) and found["histogram"][0] is None
