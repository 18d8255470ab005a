"""Ordinal alpha against a published value and against its definition."""

import math
from itertools import permutations

import numpy as np
import pytest

from zreward_core.annotations.quality import agreement
from zreward_core.annotations.quality.agreement import alpha_interval, ordinal_alpha

# Krippendorff (2011), section C: four observers, twelve units, missing values.
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def flatten(table: list[list]) -> tuple[np.ndarray, np.ndarray]:
    cells = [(unit, value) for row in table for unit, value in enumerate(row) if value is not None]
    return np.array([unit for unit, _ in cells]), np.array([float(value) for _, value in cells])


def alpha_by_definition(units: list[int], scores: list[float]) -> float:
    """Pairs within units against pairs within all pairable scores, in plain Python."""
    by_unit: dict[int, list[float]] = {}
    for unit, score in zip(units, scores, strict=True):
        by_unit.setdefault(unit, []).append(score)
    pairable = [values for values in by_unit.values() if len(values) > 1]
    pool = [score for values in pairable for score in values]

    def distance(one: float, other: float) -> float:
        low, high = sorted((one, other))
        between = sum(low <= score <= high for score in pool)
        return (between - (pool.count(low) + pool.count(high)) / 2) ** 2 if low != high else 0.0

    observed = sum(
        sum(distance(a, b) for a, b in permutations(values, 2)) / (len(values) - 1)
        for values in pairable
    ) / len(pool)
    expected = sum(distance(a, b) for a, b in permutations(pool, 2))
    return 1 - observed / (expected / (len(pool) * (len(pool) - 1)))


def test_published_value() -> None:
    assert ordinal_alpha(*flatten(PUBLISHED)) == pytest.approx(0.815, abs=5e-4)


def test_equals_the_definition() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        units = rng.integers(0, 9, size=30)
        scores = rng.choice([1.0, 1.5, 2.0, 3.25, 5.0], size=30)
        expected = alpha_by_definition(units.tolist(), scores.tolist())
        assert ordinal_alpha(units, scores) == pytest.approx(expected, abs=1e-12)


def test_perfect_agreement_is_one_and_only_order_counts() -> None:
    units = np.array([0, 0, 1, 1, 2, 2])
    assert ordinal_alpha(units, np.array([1.0, 1, 3, 3, 5, 5])) == pytest.approx(1.0)
    scores = np.array([1.0, 3, 3, 5, 5, 5])
    assert ordinal_alpha(units, scores) == pytest.approx(ordinal_alpha(units, scores**3))


def test_chance_is_near_zero() -> None:
    rng = np.random.default_rng(5)
    units = np.repeat(np.arange(5000), 3)
    alphas = [ordinal_alpha(units, rng.integers(1, 6, size=15_000)) for _ in range(40)]
    # One alpha has a standard deviation of .008 here, the mean of 40 one of .0013.
    assert abs(np.mean(alphas)) < 0.006


@pytest.mark.parametrize(
    ("units", "scores"), [([], []), ([0, 1, 2], [1.0, 2.0, 3.0]), ([0, 0, 1, 1], [2.0] * 4)]
)
def test_undefined_is_nan(units: list[int], scores: list[float]) -> None:
    assert math.isnan(ordinal_alpha(np.array(units, dtype=int), np.array(scores)))


def team(num_units: int, seed: int, levels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Three raters per unit, each the truth plus noise."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(num_units), 3)
    truth = rng.uniform(0, levels, num_units)
    return units, np.clip(np.round(truth[units] + rng.normal(0, 0.8, len(units))), 0, levels)


def test_interval_is_the_plain_bootstrap_over_units() -> None:
    units, scores = team(60, seed=1)
    low, high = alpha_interval(units, scores, seed=2, num_resamples=4000)
    rng = np.random.default_rng(3)
    alphas = []
    for _ in range(1500):
        drawn = rng.integers(0, 60, 60)
        places = (drawn[:, None] * 3 + np.arange(3)).ravel()
        alphas.append(ordinal_alpha(np.repeat(np.arange(60), 3), scores[places]))
    assert low == pytest.approx(np.percentile(alphas, 2.5), abs=0.02)
    assert high == pytest.approx(np.percentile(alphas, 97.5), abs=0.02)


def test_blocks_of_units_have_the_same_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    units, scores = team(4000, seed=4)
    monkeypatch.setattr(agreement, "MAX_BLOCKS", 10_000)
    one_by_one = alpha_interval(units, scores, seed=5)
    monkeypatch.setattr(agreement, "MAX_BLOCKS", 500)
    in_blocks = alpha_interval(units, scores, seed=5)
    width = one_by_one[1] - one_by_one[0]
    assert in_blocks[1] - in_blocks[0] == pytest.approx(width, rel=0.15)
    assert in_blocks[0] == pytest.approx(one_by_one[0], abs=0.2 * width)


def test_resampled_alpha_of_every_unit_once_is_alpha() -> None:
    units, scores = team(50, seed=6)
    coincidences = agreement._block_coincidences(*agreement._pairable(units, scores), seed=0)
    (alpha,) = agreement._alphas(coincidences.sum(axis=0)[None])
    assert alpha == pytest.approx(ordinal_alpha(units, scores), abs=1e-12)


def test_continuous_scores_have_an_interval_too() -> None:
    units, scores = team(300, seed=7)
    scores = scores + np.random.default_rng(8).uniform(0, 1e-3, len(scores))
    low, high = alpha_interval(units, scores, seed=9)
    assert low < ordinal_alpha(units, scores) < high


@pytest.mark.parametrize("units", [[], [0, 1, 2]])
def test_no_interval_without_pairs(units: list[int]) -> None:
    low, high = alpha_interval(np.array(units, dtype=int), np.array(units, dtype=float), seed=1)
    assert math.isnan(low) and math.isnan(high)
