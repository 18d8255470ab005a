"""HPA on pairs by votes, by hand."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.evaluation.votes import vote_accuracy

ROWS = [
    ("p1", "alignment", "a", "b", 1.0),
    ("p1", "alignment", "c", "b", 0.75),
    ("p1", "alignment", "a", "c", 0.5),
    ("p2", "alignment", "d", "e", 1.0),
    ("p2", "realism", "d", "e", 1.0),
]
PAIRS = pd.DataFrame(ROWS, columns=["prompt_id", "dimension", "winner", "loser", "vote_share"])
MEANS = {"a": 3.0, "b": 2.0, "c": 2.0, "d": 4.0, "e": 1.0}


def predicted(**realism: float) -> pd.DataFrame:
    rows = [(item, "alignment", mean) for item, mean in MEANS.items()]
    rows += [(item, "realism", mean) for item, mean in realism.items()]
    return pd.DataFrame(rows, columns=["item_id", "dimension", "mean"])


def test_hpa_by_votes_by_hand() -> None:
    found = vote_accuracy({"m": predicted(d=1.0, e=2.0)}, PAIRS)["m"]
    assert found["alignment"]["hpa"] == pytest.approx(2 / 3)  # the predicted tie c, b is wrong
    assert (found["alignment"]["num_pairs"], found["alignment"]["num_ties"]) == (3, 1)
    assert found["realism"] == {
        "hpa": 0.0, "hpa_low": 0.0, "hpa_high": 0.0, "num_pairs": 1, "num_ties": 0
    }  # fmt: skip
    assert found["overall"]["hpa"] == pytest.approx(0.5)
    assert found["overall"]["hpa_low"] <= 0.5 <= found["overall"]["hpa_high"]


def test_only_ties_have_no_hpa() -> None:
    found = vote_accuracy({"m": predicted()}, PAIRS.iloc[[2]])["m"]["overall"]
    assert found["hpa"] is None and found["num_pairs"] == 0 and found["num_ties"] == 1


def test_a_missing_prediction_is_an_error() -> None:
    with pytest.raises(ValueError, match="m: d or e has no prediction"):
        vote_accuracy({"m": predicted(d=np.nan, e=1.0)}, PAIRS)
