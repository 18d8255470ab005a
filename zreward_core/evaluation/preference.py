"""Metrics of scores and preferences: section 7 of Z-Reward (arXiv:2606.09076).

Shapes: N items, P pairs, S score levels. A metric that its data leave undefined is NaN.
"""

import numpy as np
from scipy import stats

MARGIN = 0.5
"""Margin HPA counts pairs whose scores differ by more than this many rubric points."""
MIN_PROBABILITY = 1e-6
"""Probabilities are clipped here before the logarithm, so that one certain error stays finite."""
NUM_BINS = 10
"""Equal-width bins of the calibration error."""
TOLERANCE = 1e-9
"""Scores are averages of a few ratings; differences below this are rounding."""


def plcc(predicted_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Pearson's linear correlation; undefined for fewer than two items or a constant side."""
    if not _correlates(predicted_N, scores_N):
        return float("nan")
    return float(stats.pearsonr(predicted_N, scores_N).statistic)


def srcc(predicted_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Spearman's rank correlation; undefined for fewer than two items or a constant side."""
    if not _correlates(predicted_N, scores_N):
        return float("nan")
    return float(stats.spearmanr(predicted_N, scores_N).statistic)


def _correlates(predicted_N: np.ndarray, scores_N: np.ndarray) -> bool:
    return len(scores_N) > 1 and np.ptp(predicted_N) > 0 and np.ptp(scores_N) > 0


def counted_pairs(
    scores_a_P: np.ndarray, scores_b_P: np.ndarray, margin: float = 0.0
) -> np.ndarray:
    """Pairs that a preference metric counts: |s_a - s_b| > margin, [P] bool."""
    return np.abs(scores_a_P - scores_b_P) > margin + TOLERANCE


def agreements(
    predicted_a_P: np.ndarray,
    predicted_b_P: np.ndarray,
    scores_a_P: np.ndarray,
    scores_b_P: np.ndarray,
) -> np.ndarray:
    """(mu_a - mu_b)(s_a - s_b) > 0 of equation 17, [P] bool; a predicted tie is no agreement."""
    return (predicted_a_P - predicted_b_P) * (scores_a_P - scores_b_P) > 0


def hpa(
    predicted_a_P: np.ndarray,
    predicted_b_P: np.ndarray,
    scores_a_P: np.ndarray,
    scores_b_P: np.ndarray,
    margin: float = 0.0,
) -> float:
    """Human preference accuracy, equation 17: the share of same-prompt pairs ordered as annotated.

    Pairs with equal scores do not count. A predicted tie counts as wrong: the formula asks for a
    product above zero.

    Args:
        predicted_a_P, predicted_b_P: [P] expected scores of each pair's two items.
        scores_a_P, scores_b_P: [P] annotated scores.
        margin: only pairs whose scores differ by more count.
    """
    counted_P = counted_pairs(scores_a_P, scores_b_P, margin)
    if not counted_P.any():
        return float("nan")
    right_P = agreements(predicted_a_P, predicted_b_P, scores_a_P, scores_b_P)
    return float(right_P[counted_P].mean())


def margin_hpa(
    predicted_a_P: np.ndarray,
    predicted_b_P: np.ndarray,
    scores_a_P: np.ndarray,
    scores_b_P: np.ndarray,
) -> float:
    """HPA on the pairs with |s_a - s_b| > 0.5, those that annotators tell apart clearly."""
    return hpa(predicted_a_P, predicted_b_P, scores_a_P, scores_b_P, margin=MARGIN)


def nll(probs_NS: np.ndarray, histogram_NS: np.ndarray) -> float:
    """Mean negative log-likelihood (nats) of the annotators' histogram under the prediction."""
    if len(probs_NS) == 0:
        return float("nan")
    log_probs_NS = np.log(np.clip(probs_NS, MIN_PROBABILITY, 1.0))
    return float(-(histogram_NS * log_probs_NS).sum(axis=1).mean())


def ece(probs_NS: np.ndarray, histogram_NS: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error of an ordinal prediction, in probability.

    The scale is cut into the S - 1 events "the score is above level k" (Frank and Hall 2001, "A
    simple approach to ordinal classification"). Each has a predicted probability and an observed
    frequency, the share of annotators above; its calibration error is the binary one of Naeini et
    al. 2015, "Obtaining well calibrated probabilities using Bayesian binning": sum over equal-width
    bins of (items in the bin / N) * |mean predicted - mean observed|. The result is the mean over
    the events. It looks at the whole distribution: a model with the right mean and the wrong
    spread is not calibrated.
    """
    if len(probs_NS) == 0:
        return float("nan")
    predicted_NK = 1.0 - probs_NS.cumsum(axis=1)[:, :-1]
    observed_NK = 1.0 - histogram_NS.cumsum(axis=1)[:, :-1]
    return float(
        np.mean(
            [
                binary_ece(predicted_NK[:, k], observed_NK[:, k], num_bins)
                for k in range(predicted_NK.shape[1])
            ]
        )
    )


def binary_ece(predicted_N: np.ndarray, observed_N: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """Calibration error of one event: predicted probabilities against observed frequencies."""
    bins_N = np.clip((predicted_N * num_bins).astype(int), 0, num_bins - 1)
    gaps = np.bincount(bins_N, weights=predicted_N - observed_N, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(predicted_N))
