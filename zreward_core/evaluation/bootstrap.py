"""Cluster bootstrap over prompts: images of one prompt are drawn together.

Shapes: N prompts, R resamples. A resample is a row of counts, how often each prompt was drawn; a
metric that is a ratio of sums over prompts is then two matrix products. Draw the counts once and
use them for every model: differences are paired that way.
"""

from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A value with its percentile interval; all NaN where the value is undefined."""

    value: float
    low: float
    high: float


def resample(num_prompts: int, seed: int, num_resamples: int = NUM_RESAMPLES) -> np.ndarray:
    """Draw prompts with replacement: how often each was drawn in each resample, [R, N]."""
    generator = np.random.default_rng(seed)
    if num_prompts == 0:
        return np.zeros((num_resamples, 0))
    shares = np.full(num_prompts, 1.0 / num_prompts)
    return generator.multinomial(num_prompts, shares, size=num_resamples).astype(float)


def ratio_interval(
    numerators_N: np.ndarray,
    denominators_N: np.ndarray,
    counts_RN: np.ndarray,
    confidence: float = CONFIDENCE,
) -> Interval:
    """sum(numerators) / sum(denominators) with its percentile interval.

    For HPA the numerators are each prompt's pairs ordered rightly, the denominators its pairs; for
    the difference of two models the numerators are the differences of their right pairs. Resamples
    whose denominator is zero are left out.
    """
    total = denominators_N.sum()
    totals_R = counts_RN @ denominators_N
    defined_R = totals_R > 0
    if total == 0 or not defined_R.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    ratios_R = (counts_RN @ numerators_N)[defined_R] / totals_R[defined_R]
    tail = 100.0 * (1.0 - confidence) / 2
    low, high = np.percentile(ratios_R, [tail, 100.0 - tail])
    return Interval(float(numerators_N.sum() / total), float(low), float(high))


def mean_interval(
    values_N: np.ndarray, counts_RN: np.ndarray, confidence: float = CONFIDENCE
) -> Interval:
    """Mean over prompts with its percentile interval."""
    return ratio_interval(values_N, np.ones(len(values_N)), counts_RN, confidence)
