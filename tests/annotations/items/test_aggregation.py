"""Aggregation by hand and against the rubric's own histogram."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.items.aggregation import (
    aggregate,
    histograms,
    merge_resubmissions,
    resubmitted,
)
from zreward_core.annotations.items.times import parse_times
from zreward_core.rubric import Rubric


def ratings_of(scores: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(item, "alignment", score) for item, values in scores.items() for score in values]
    return pd.DataFrame(rows, columns=["item_id", "dimension", "score"])


def test_highest_and_lowest_are_dropped(rubric: Rubric) -> None:
    ratings = ratings_of({"test": [5, 1, 3, 3.5, 1], "two": [1, 4], "train": [5, 1, 3]})
    result = aggregate(ratings, ratings["item_id"] != "train", rubric).set_index("item_id")
    # 1, 1, 3, 3.5, 5 keeps one 1; two ratings cannot be trimmed; train items are not trimmed.
    assert result["score"].tolist() == pytest.approx([2.5, 2.5, 3.0])
    assert result["num_ratings"].tolist() == [5, 2, 3]
    assert result["num_kept"].tolist() == [3, 2, 3]
    third = pytest.approx(1 / 3)
    assert list(result.loc["test", "histogram"]) == [third, 0, 0, 0, third, third, 0, 0, 0]


def test_scores_between_levels_are_shared_by_the_neighbours(rubric: Rubric) -> None:
    ratings = ratings_of({"one": [3.2]})
    (shares,) = aggregate(ratings, ratings["score"] < 0, rubric)["histogram"]
    assert shares[4] == pytest.approx(0.6)
    assert shares[5] == pytest.approx(0.4)
    assert np.dot(shares, rubric.levels) == pytest.approx(3.2)


def test_histograms_equal_the_rubrics(rubric: Rubric) -> None:
    rng = np.random.default_rng(2)
    codes = np.sort(np.concatenate([np.arange(20), rng.integers(0, 20, size=100)]))
    scores = np.round(rng.uniform(1, 5, size=120), 1)
    scores = scores[np.lexsort([scores, codes])]
    values, places = np.unique(scores, return_inverse=True)
    result = histograms(codes, places, values, rubric)
    for item in range(20):
        assert result[item] == pytest.approx(rubric.histogram(scores[codes == item]))


def test_order_of_ratings_does_not_matter(rubric: Rubric) -> None:
    rng = np.random.default_rng(4)
    names = [f"i{n}" for n in range(12)]
    ratings = ratings_of({name: list(rng.choice(rubric.levels, size=5)) for name in names})
    shuffled = ratings.sample(frac=1, random_state=0)
    one = aggregate(ratings, ratings["score"] > 0, rubric).set_index("item_id")
    other = aggregate(shuffled, shuffled["score"] > 0, rubric).set_index("item_id").loc[one.index]
    assert other["score"].tolist() == pytest.approx(one["score"].tolist())


SUBMISSIONS = pd.DataFrame(
    [
        ("i1", "alignment", "a", 2.0, "2026-01-02"),
        ("i1", "alignment", "b", 5.0, "2026-01-01"),
        ("i1", "alignment", "a", 3.0, "2026-01-01"),
        ("i1", "realism", "a", 1.0, "2026-01-01"),
        ("i1", "alignment", None, 4.0, None),
        ("i1", "alignment", None, 1.0, None),
    ],
    columns=["item_id", "dimension", "annotator_id", "score", "submitted_at"],
)


@pytest.mark.parametrize(
    ("how", "scores"),
    [
        ("average", [2.5, 5.0, 1.0, 4.0, 1.0]),
        ("last", [2.0, 5.0, 1.0, 4.0, 1.0]),
        ("keep", [2.0, 5.0, 3.0, 1.0, 4.0, 1.0]),
    ],
)
def test_resubmissions(how: str, scores: list[float]) -> None:
    merged = merge_resubmissions(SUBMISSIONS, how, parse_times(SUBMISSIONS["submitted_at"]))  # type: ignore[arg-type]
    assert merged["score"].tolist() == scores
    assert merged["annotator_id"].isna().sum() == 2
    assert resubmitted(SUBMISSIONS).sum() == 1


def test_the_last_submission_is_found_by_time_not_by_text() -> None:
    times = ["02-Feb-2026", "03-Jan-2026", None, None, None, None]
    ratings = SUBMISSIONS.assign(submitted_at=[times[0], None, times[1], *times[3:]])
    merged = merge_resubmissions(ratings, "last", parse_times(ratings["submitted_at"]))
    assert merged["score"].tolist() == [2.0, 5.0, 1.0, 4.0, 1.0]
