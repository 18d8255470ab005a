"""Metrics of scores and preferences (Z-Reward, arXiv:2606.09076).

Shapes: N items, P pairs, S score levels. A metric that is undefined on its data is NaN.
"""

import numpy as np
from scipy import stats

from zreward_core.schemas import NotFinite

MARGIN = 0.5
"""Margin HPA is restricted to pairs whose scores differ by more than this (rubric points)."""
MIN_PROBABILITY = 1e-6
"""Lower bound on probabilities inside a logarithm, which keeps the NLL of a zero finite."""
NUM_BINS = 10
"""Equal-width bins of the calibration error."""
TOLERANCE = 1e-9
"""Scores are averages of a few ratings; smaller differences are rounding errors."""


def plcc(predicted_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Pearson linear correlation; undefined for fewer than two items or a constant input."""
    if not _correlates(predicted_N, scores_N):
        return float("nan")
    return float(stats.pearsonr(predicted_N, scores_N).statistic)


def srcc(predicted_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Spearman rank correlation; undefined for fewer than two items or a constant input."""
    if not _correlates(predicted_N, scores_N):
        return float("nan")
    return float(stats.spearmanr(predicted_N, scores_N).statistic)


def _correlates(predicted_N: np.ndarray, scores_N: np.ndarray) -> bool:
    return len(scores_N) > 1 and np.ptp(predicted_N) > 0 and np.ptp(scores_N) > 0


def counted_pairs(
    scores_a_P: np.ndarray, scores_b_P: np.ndarray, margin: float = 0.0
) -> np.ndarray:
    """Pairs included in a preference metric: |s_a - s_b| > margin, [P] bool."""
    return np.abs(scores_a_P - scores_b_P) > margin + TOLERANCE


def agreements(
    predicted_a_P: np.ndarray,
    predicted_b_P: np.ndarray,
    scores_a_P: np.ndarray,
    scores_b_P: np.ndarray,
) -> np.ndarray:
    """(mu_a - mu_b)(s_a - s_b) > 0 of equation 17, [P] bool; a predicted tie is False.

    Raises:
        NotFinite: a score is NaN or infinite; a comparison with it would count as incorrect.
    """
    sides_4P = np.stack([predicted_a_P, predicted_b_P, scores_a_P, scores_b_P])
    wrong_P = ~np.isfinite(sides_4P).all(axis=0)
    if wrong_P.any():
        pair = int(wrong_P.argmax())
        raise NotFinite(
            f"{wrong_P.sum()} of {len(wrong_P)} pairs have a score that is not finite, the first"
            f" of them number {pair}: predicted {sides_4P[:2, pair].tolist()}, annotated"
            f" {sides_4P[2:, pair].tolist()}; run the stage that writes these scores again"
        )
    return (predicted_a_P - predicted_b_P) * (scores_a_P - scores_b_P) > 0


def hpa(
    predicted_a_P: np.ndarray,
    predicted_b_P: np.ndarray,
    scores_a_P: np.ndarray,
    scores_b_P: np.ndarray,
    margin: float = 0.0,
) -> float:
    """Human preference accuracy, equation 17: share of same-prompt pairs ordered as annotated.

    Pairs with equal annotated scores are excluded. A predicted tie is incorrect, since the equation
    requires a positive product.

    Args:
        predicted_a_P, predicted_b_P: [P] expected scores of each pair's two items.
        scores_a_P, scores_b_P: [P] annotated scores.
        margin: only pairs whose annotated scores differ by more are included; ``MARGIN`` for
            margin HPA.
    """
    counted_P = counted_pairs(scores_a_P, scores_b_P, margin)
    if not counted_P.any():
        return float("nan")
    sides = (predicted_a_P, predicted_b_P, scores_a_P, scores_b_P)
    return float(agreements(*(side[counted_P] for side in sides)).mean())


def nll(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Mean negative log-likelihood (nats) of the annotators' histogram under the prediction."""
    if len(probs_NS) == 0:
        return float("nan")
    log_probs_NS = np.log(np.clip(probs_NS, MIN_PROBABILITY, 1.0))
    return float(-(histogram_NS * log_probs_NS).sum(axis=1).mean())


def ece(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Expected calibration error of an ordinal prediction, in probability.

    The scale is split into the S - 1 events "the score is above level k" (Frank and Hall 2001, "A
    simple approach to ordinal classification"). Each event has a predicted probability and an
    observed frequency, the share of annotators above level k. The result is the mean over the
    events of the binary calibration error of Naeini et al. 2015, "Obtaining well calibrated
    probabilities using Bayesian binning": the sum over equal-width bins of (items in the bin / N) *
    |mean predicted - mean observed|. It depends on the whole distribution: a prediction with the
    correct mean and a wrong spread is not calibrated.
    """
    if len(probs_NS) == 0:
        return float("nan")
    predicted_NK = 1.0 - probs_NS.cumsum(axis=1)[:, :-1]
    observed_NK = 1.0 - histogram_NS.cumsum(axis=1)[:, :-1]
    columns = zip(predicted_NK.T, observed_NK.T, strict=True)
    return float(np.mean([binary_ece(*column) for column in columns]))


def binary_ece(predicted_N: np.ndarray, observed_N: np.ndarray) -> float:
    """Calibration error of one event: predicted probabilities against observed frequencies."""
    bins_N = np.clip((predicted_N * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    gaps = np.bincount(bins_N, weights=predicted_N - observed_N, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(predicted_N))
