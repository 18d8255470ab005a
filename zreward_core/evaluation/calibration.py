"""Whether a predicted score distribution is that of the annotators, and a temperature that helps.

Shapes: N items, S score levels. Histograms are shares of annotators a level. NLL and ECE are those
of ``evaluation.preference``.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from zreward_core.evaluation.preference import MIN_PROBABILITY, ece, nll

COVERED = 0.8
"""Probability of the central interval whose coverage is measured."""
TEMPERATURES = (0.1, 10.0)
"""Where a temperature is looked for."""


def kl_divergence(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Mean KL(histogram || prediction) in nats: NLL less the annotators' own entropy."""
    shares = histogram_NS[histogram_NS > 0]
    return nll(probs_NS, histogram_NS) + float((shares * np.log(shares)).sum()) / len(histogram_NS)


def wasserstein(probs_NS: np.ndarray, histogram_NS: np.ndarray, levels_S: np.ndarray) -> float:
    """Mean W1 between prediction and histogram, in rubric units: the area between their CDFs."""
    gap_NS = np.abs((probs_NS - histogram_NS).cumsum(axis=1))[:, :-1]
    return float((gap_NS * np.diff(levels_S)).sum(axis=1).mean())


def coverage(probs_NS: np.ndarray, histogram_NS: np.ndarray, share: float = COVERED) -> float:
    """Share of the annotators' scores inside the predictions' central intervals.

    An interval runs from the level in which the CDF passes (1 - share) / 2 to the one in which it
    passes (1 + share) / 2. Levels are whole, so it holds at least ``share`` of the prediction, and
    a calibrated prediction covers somewhat more than that.
    """
    cdf_NS = probs_NS.cumsum(axis=1)
    low_N = (cdf_NS < (1 - share) / 2).sum(axis=1)
    high_N = (cdf_NS < (1 + share) / 2 - 1e-9).sum(axis=1)
    at_S = np.arange(probs_NS.shape[1])
    inside_NS = (at_S >= low_N[:, None]) & (at_S <= high_N[:, None])
    return float((histogram_NS * inside_NS).sum(axis=1).mean())


def tempered(probs_NS: np.ndarray, temperature: float) -> np.ndarray:
    """Predictions at another temperature: softmax(log p / T)."""
    log_NS = np.log(np.clip(probs_NS, MIN_PROBABILITY, 1.0)) / temperature
    weights = np.exp(log_NS - log_NS.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def fit_temperature(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """The temperature of the least NLL (Guo et al. 2017, "On calibration of modern networks")."""
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
