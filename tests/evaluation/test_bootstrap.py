"""The cluster bootstrap against brute force and SciPy."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from zreward_core.evaluation.bootstrap import mean_interval, ratio_interval, resample


def test_counts_sum_to_the_number_of_prompts():
    counts = resample(7, seed=0, num_resamples=50)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert np.array_equal(counts, resample(7, seed=0, num_resamples=50))


def test_interval_by_hand():
    counts = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    interval = ratio_interval(np.array([1.0, 3.0]), np.array([2.0, 4.0]), counts)
    ratios = [0.5, 4 / 6, 0.75]
    assert interval.value == pytest.approx(4 / 6)
    assert interval.low == pytest.approx(np.percentile(ratios, 2.5))
    assert interval.high == pytest.approx(np.percentile(ratios, 97.5))


def test_interval_equals_a_loop_over_resamples():
    rng = np.random.default_rng(0)
    pairs = [rng.random(size) < 0.7 for size in rng.integers(1, 6, 20)]  # correct pairs, by prompt
    counts = resample(20, seed=1, num_resamples=300)
    ratios = []
    for row in counts.astype(int):
        drawn = [right for pair, count in zip(pairs, row, strict=True) for right in [pair] * count]
        ratios.append(np.concatenate(drawn).mean())
    interval = ratio_interval(
        np.array([pair.sum() for pair in pairs], dtype=float),
        np.array([len(pair) for pair in pairs], dtype=float),
        counts,
    )
    assert interval.low == pytest.approx(np.percentile(ratios, 2.5))
    assert interval.high == pytest.approx(np.percentile(ratios, 97.5))


def test_interval_of_a_mean_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=80)
    ours = mean_interval(values, resample(80, seed=1, num_resamples=20_000))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


def test_interval_covers_the_true_mean_at_its_confidence_level():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = mean_interval(rng.normal(1.0, 1.0, 60), resample(60, trial, 300))
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_zeros_have_a_zero_interval():
    counts = resample(10, seed=0)
    assert mean_interval(np.zeros(10), counts) == (0.0, 0.0, 0.0)


def test_prompts_without_pairs():
    counts = resample(3, seed=0, num_resamples=100)
    undefined = ratio_interval(np.zeros(3), np.zeros(3), counts)
    assert all(math.isnan(number) for number in undefined)
    one = ratio_interval(np.array([0.0, 1.0, 0.0]), np.array([0.0, 2.0, 0.0]), counts)
    assert one == (0.5, 0.5, 0.5)  # resamples without this prompt are excluded
    assert math.isnan(mean_interval(np.zeros(0), resample(0, seed=0)).value)


def test_two_thousand_resamples_are_fast():
    start = time.perf_counter()
    counts = resample(200, seed=0)
    for _ in range(20):
        mean_interval(np.arange(200.0), counts)
    assert counts.shape == (2000, 200)
    assert time.perf_counter() - start < 2.0
