import numpy as np
import pytest

from zreward_core.evaluation.paired import compare_means


def test_equal_scores_differ_by_exactly_zero():
    scores = np.random.default_rng(0).uniform(1, 5, (7, 2))
    result = compare_means(scores, scores.copy(), ["a", "b"], 3)
    assert set(result) == {"a", "b", "mean"}
    assert all(row["low"] == row["high"] == 0 for row in result.values())


def test_a_constant_gain_has_no_width():
    before = np.array([[1.0, 2.0], [3.0, 4.0]])
    row = compare_means(before, before + np.array([1.0, 0.0]), ["a", "b"], 3)["a"]
    assert row == {"before": 2.0, "after": 3.0, "low": 1.0, "high": 1.0}
    mean = compare_means(before, before + np.array([1.0, 0.0]), ["a", "b"], 3)["mean"]
    assert (mean["low"], mean["high"]) == pytest.approx((0.5, 0.5))
