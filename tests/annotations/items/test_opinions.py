"""Opinions: histograms by hand, means kept exactly, nothing negative."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.items.opinions import opinion_items, shares_of_levels
from zreward_core.rubric import Rubric


def opinions_of(rows: list[tuple]) -> pd.DataFrame:
    names = ["item_id", "dimension", "mean", "std", "histogram", "num_ratings"]
    return pd.DataFrame(rows, columns=names)


def test_means_are_kept_and_shares_are_shares(rubric: Rubric) -> None:
    rng = np.random.default_rng(1)
    means = np.concatenate([rng.uniform(1, 5, size=500), [1.0, 5.0, 1.02, 4.99, 3.25]])
    stds = np.concatenate([rng.uniform(0, 2, size=500), [0.5, 0.5, 1.5, 1.9, 0.0]])
    shares = shares_of_levels(means, stds, rubric)
    assert shares.min() >= 0
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert shares @ np.asarray(rubric.levels) == pytest.approx(means, abs=1e-8)


def test_deviations_are_about_kept_in_the_middle_of_the_scale(rubric: Rubric) -> None:
    levels = np.asarray(rubric.levels)
    (shares,) = shares_of_levels(np.array([3.1]), np.array([0.6]), rubric)
    deviation = np.sqrt(shares @ (levels - 3.1) ** 2)
    assert deviation == pytest.approx(0.6, abs=0.02)


def test_without_deviation_the_neighbours_share_it(rubric: Rubric) -> None:
    (shares,) = shares_of_levels(np.array([3.1]), np.array([np.nan]), rubric)
    assert shares.tolist() == pytest.approx([0, 0, 0, 0, 0.8, 0.2, 0, 0, 0])


def test_a_histogram_is_used_and_several_are_weighted(rubric: Rubric) -> None:
    low, high = np.eye(9)[0], np.eye(9)[8]
    items = opinion_items(
        opinions_of(
            [
                ("i", "realism", 1.0, None, low, 3),
                ("j", "realism", 2.0, None, None, None),
                ("i", "realism", 5.0, None, high, 1),
            ]
        ),
        rubric,
    ).set_index("item_id")
    assert list(items.index) == ["i", "j"]
    assert list(items.loc["i", "histogram"]) == [0.75, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert items.loc["i", "score"] == pytest.approx(2.0)
    assert items["num_ratings"].tolist() == [4, 1]
    assert items.loc["j", "score"] == pytest.approx(2.0)
