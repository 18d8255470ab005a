"""Paired differences of means, and detection of reward hacking."""

import numpy as np
import pytest

from zreward_core.evaluation.paired import compare_means, hacked_dimensions


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


@pytest.mark.parametrize(
    ("panel", "reward", "hacked"),
    [
        # the panel's mean rises although it falls in b
        ([(2.0, 2.5), (4.0, 2.0)], [(2.0, 2.5), (4.0, 3.0)], ["b"]),
        # the best validation is the second of three, in a and in the mean
        ([(2.0, 3.0), (3.0, 3.0), (2.0, 3.0)], [(2.0, 3.0), (3.0, 3.0), (3.5, 3.0)], ["a", "mean"]),
        # the reward falls as well
        ([(2.0, 2.5), (4.0, 2.0)], [(2.0, 2.5), (4.0, 2.0)], []),
        ([(2.0, 2.5), (4.0, 2.5)], [(2.0, 2.5), (4.0, 4.0)], []),
        ([(2.0, 2.5)], [(2.0, 2.5)], []),
    ],
)
def test_hacked_dimensions_have_a_falling_panel_and_a_rising_reward(panel, reward, hacked):
    spread = np.random.default_rng(0).normal(size=(1, 40, 2))
    panel, reward = (np.array(means)[:, None] + spread for means in (panel, reward))
    assert hacked_dimensions(panel, reward, ["a", "b"], 3) == hacked


def test_a_fall_that_is_not_significant_is_ignored():
    noise = np.random.default_rng(0).normal(size=(2, 40, 1))
    panel = noise - noise.mean(axis=1, keepdims=True) + np.array([2.05, 2.0])[:, None, None]
    reward = np.full((2, 40, 1), 2.0) + np.array([0.0, 1.0])[:, None, None]
    assert hacked_dimensions(panel, reward, ["a"], 3) == []
    assert hacked_dimensions(panel * [[[1]], [[0.1]]], reward, ["a"], 3) == ["a", "mean"]
