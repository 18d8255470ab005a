"""Witnesses: a large table is judged as all of its rows would be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.quality import decisive_rows as module
from zreward_core.annotations.quality.decisive_rows import witnesses
from zreward_core.annotations.quality.expectations import import_expectations

EXPECT = import_expectations()


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.setattr(module, "LARGE", 100)
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "score": rng.uniform(1, 5, size=1000),
            "low": 0.5,
            "name": pd.Categorical(rng.choice(["a", "b", "c"], size=1000)),
            "key": [f"{n:064x}" for n in range(1000)],
            "copy": [f"{n:064x}" for n in range(1000)],
        }
    )


CASES = [
    ("score", np.nan, lambda: EXPECT.ExpectColumnValuesToNotBeNull(column="score")),
    ("score", 7.0, lambda: EXPECT.ExpectColumnValuesToBeBetween(column="score", max_value=5)),
    ("score", 0.0, lambda: EXPECT.ExpectColumnValuesToBeBetween(column="score", min_value=1)),
    ("name", "c", lambda: EXPECT.ExpectColumnValuesToBeInSet(column="name", value_set=["a", "b"])),
    (
        "key",
        "xyz",
        lambda: EXPECT.ExpectColumnValuesToMatchRegex(column="key", regex="^[0-9a-f]+$"),
    ),
    ("key", "0" * 64, lambda: EXPECT.ExpectCompoundColumnsToBeUnique(column_list=["key", "low"])),
    (
        "low",
        6.0,
        lambda: EXPECT.ExpectColumnPairValuesAToBeGreaterThanB(column_A="score", column_B="low"),
    ),
    ("copy", "?", lambda: EXPECT.ExpectColumnPairValuesToBeEqual(column_A="key", column_B="copy")),
]


@pytest.mark.parametrize(("column", "value", "expectation"), CASES)
def test_every_row_that_breaks_it_is_a_witness(frame, column, value, expectation) -> None:
    if column == "name":
        broken = set(frame.index[frame["name"] == "c"])
    else:
        frame.loc[frame.index == 777, column] = value
        broken = {0, 777} if value == "0" * 64 else {777}
    chosen = witnesses(frame, [expectation()])
    assert broken <= set(chosen.index)
    assert len(chosen) <= len(broken) + 5


def test_a_sound_table_has_few_witnesses_and_its_extremes(frame) -> None:
    chosen = witnesses(frame, [EXPECT.ExpectColumnValuesToBeBetween(column="score", min_value=1)])
    assert {frame["score"].idxmin(), frame["score"].idxmax()} <= set(chosen.index)
    assert len(chosen) <= 3


def test_small_tables_are_judged_as_a_whole(frame) -> None:
    small = frame.head(100)
    assert witnesses(small, []) is small


def test_every_expectation_of_the_contracts_is_known() -> None:
    text = (Path(module.__file__).parent / "expectations.py").read_text()
    used = {part.split("(")[0] for part in text.split("gxe.")[1:]}
    assert used <= set(module._LOOK)
