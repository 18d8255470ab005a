"""Cluster bootstrap over prompts: all images of a prompt are resampled together.

Shapes: N prompts, R resamples. A resample is a row of counts (how often each prompt was drawn), so
a metric that is a ratio of sums over prompts needs two matrix products. Models that share one set
of counts are compared on the same resamples, which makes their differences paired.
"""

from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A value with its percentile interval; all NaN if the value is undefined."""

    value: float
    low: float
    high: float


def resample(num_prompts: int, seed: int, num_resamples: int = NUM_RESAMPLES) -> np.ndarray:
    """Draw prompts with replacement; returns how often each was drawn in each resample, [R, N]."""
    generator = np.random.default_rng(seed)
    if num_prompts == 0:
        return np.zeros((num_resamples, 0))
    shares = np.full(num_prompts, 1.0 / num_prompts)
    return generator.multinomial(num_prompts, shares, size=num_resamples).astype(float)


def sum_by_prompt(values: np.ndarray, prompts: np.ndarray, num_prompts: int) -> np.ndarray:
    """Sum values (of items or pairs) by the position of their prompt, [num_prompts]."""
    return np.bincount(prompts, weights=values.astype(float), minlength=num_prompts)


def percentile_bounds(values_R: np.ndarray) -> tuple[float, float]:
    """Bounds of the central 95 % interval of resampled values; NaNs are ignored."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2
    low, high = np.nanpercentile(values_R, [tail, 100.0 - tail])
    return float(low), float(high)


def ratio_interval(
    numerators_N: np.ndarray,
    denominators_N: np.ndarray,
    counts_RN: np.ndarray,
) -> Interval:
    """sum(numerators) / sum(denominators) with its percentile interval.

    For HPA the numerators are the number of correctly ordered pairs of each prompt and the
    denominators its number of pairs. For the difference of two models the numerators are the
    differences of their numbers of correct pairs. Resamples with a zero denominator are excluded.
    """
    total = denominators_N.sum()
    totals_R = counts_RN @ denominators_N
    defined_R = totals_R > 0
    if total == 0 or not defined_R.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    ratios_R = (counts_RN @ numerators_N)[defined_R] / totals_R[defined_R]
    return Interval(float(numerators_N.sum() / total), *percentile_bounds(ratios_R))


def mean_interval(values_N: np.ndarray, counts_RN: np.ndarray) -> Interval:
    """Mean over prompts with its percentile interval."""
    return ratio_interval(values_N, np.ones(len(values_N)), counts_RN)
