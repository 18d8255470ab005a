"""The list has the widest spreads, in a fixed order."""

import pandas as pd
import pytest

from zreward_core.annotations.quality.disagreement import most_disputed
from zreward_core.annotations.quality.encoding import encode


def queue(rows: list[tuple[str, str, str, float]], length: int = 10) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item_id", "dimension", "annotator_id", "score"])
    names = frame["item_id"].unique()
    facts = pd.DataFrame(
        {"prompt_id": "p", "prompt": "a cat", "image_id": None, "split": "test"}, index=names
    )
    return most_disputed(encode(frame, ["alignment", "realism"]), facts, length)


ROWS = [
    ("wide", "alignment", "a", 1.0),
    ("wide", "alignment", "b", 5.0),
    ("same", "alignment", "a", 3.0),
    ("same", "alignment", "b", 3.0),
    ("single", "alignment", "a", 1.0),
    ("close", "realism", "a", 2.0),
    ("close", "realism", "b", 2.5),
    ("close", "realism", "c", 3.0),
]


def test_widest_first_without_agreement_and_single_ratings() -> None:
    result = queue(ROWS)
    assert result["item_id"].tolist() == ["wide", "close"]
    assert result["dimension"].tolist() == ["alignment", "realism"]
    assert result["spread"].tolist() == pytest.approx([8**0.5, 0.5], abs=1e-6)
    assert result["lowest"].tolist() == [1.0, 2.0] and result["highest"].tolist() == [5.0, 3.0]
    assert result["num_ratings"].tolist() == [2, 3]


def test_length_and_order_of_ties_do_not_depend_on_the_rows() -> None:
    ties = [
        (f"i{n}", "alignment", who, score)
        for n in range(9)
        for who, score in zip("ab", (1, 2), strict=True)
    ]
    result = queue(ties, 3)["item_id"].tolist()
    assert result == queue(ties[::-1], 3)["item_id"].tolist() == ["i0", "i1", "i2"]
    assert queue(ROWS[2:5]).empty
    assert queue(ROWS, 0).empty
