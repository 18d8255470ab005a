"""Calibration of predicted score distributions against annotators' histograms.

Shapes: N items, S score levels. A histogram holds the share of annotators at each level. NLL and
ECE are those of ``evaluation.preference``.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from zreward_core.evaluation.preference import MIN_PROBABILITY, ece, nll

COVERED = 0.8
"""Probability mass of the central interval for which coverage is measured."""
TEMPERATURES = (0.1, 10.0)
"""Search range of the temperature."""


def kl_divergence(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Mean KL(histogram || prediction) in nats: NLL minus the entropy of the histograms."""
    shares = histogram_NS[histogram_NS > 0]
    return nll(probs_NS, histogram_NS) + float((shares * np.log(shares)).sum()) / len(histogram_NS)


def wasserstein(probs_NS: np.ndarray, histogram_NS: np.ndarray, levels_S: np.ndarray) -> float:
    """Mean W1 between prediction and histogram, in rubric units: the area between their CDFs."""
    gap_NS = np.abs((probs_NS - histogram_NS).cumsum(axis=1))[:, :-1]
    return float((gap_NS * np.diff(levels_S)).sum(axis=1).mean())


def coverage(probs_NS: np.ndarray, histogram_NS: np.ndarray, share: float = COVERED) -> float:
    """Share of the annotators' scores inside the central prediction intervals.

    An interval runs from the level at which the CDF passes (1 - share) / 2 to the level at which it
    passes (1 + share) / 2. Levels are discrete, so an interval holds at least ``share`` of the
    predicted mass and the coverage of a calibrated prediction is slightly above ``share``.
    """
    cdf_NS = probs_NS.cumsum(axis=1)
    low_N = (cdf_NS < (1 - share) / 2).sum(axis=1)
    high_N = (cdf_NS < (1 + share) / 2 - 1e-9).sum(axis=1)
    at_S = np.arange(probs_NS.shape[1])
    inside_NS = (at_S >= low_N[:, None]) & (at_S <= high_N[:, None])
    return float((histogram_NS * inside_NS).sum(axis=1).mean())


def tempered(probs_NS: np.ndarray, temperature: float) -> np.ndarray:
    """Predictions rescaled by a temperature: softmax(log p / T)."""
    return softmax(np.log(np.clip(probs_NS, MIN_PROBABILITY, 1.0)) / temperature, axis=1)


def fit_temperature(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Temperature with the lowest NLL (Guo et al. 2017, arXiv:1706.04599)."""
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda logarithm: nll(tempered(probs_NS, float(np.exp(logarithm))), histogram_NS),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def measure_calibration(
    probs_NS: np.ndarray, histogram_NS: np.ndarray, levels_S: np.ndarray
) -> dict[str, float]:
    """nll and kl (nats), ece (probability), w1 (rubric units), coverage (share)."""
    return {
        "nll": nll(probs_NS, histogram_NS),
        "kl": kl_divergence(probs_NS, histogram_NS),
        "ece": ece(probs_NS, histogram_NS),
        "w1": wasserstein(probs_NS, histogram_NS, levels_S),
        "coverage": coverage(probs_NS, histogram_NS),
    }
