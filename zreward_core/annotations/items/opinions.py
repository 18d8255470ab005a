"""Items with histograms from mean opinions, without inventing votes.

A histogram of votes is used unchanged. With mean and standard deviation only, the shares of the
levels are a Gaussian evaluated at the levels and tilted so that its mean is exactly the opinion's:
a unique tilt p(s) exp(lambda s) has this mean. (DeQA-Score, arXiv:2501.11561, also discretises a
Gaussian, but corrects the mean linearly, which can give negative shares.) Without a standard
deviation, the two levels next to the mean share it.

Shapes: K opinions, S levels.
"""

import numpy as np
import pandas as pd
from scipy.special import softmax

from zreward_core.annotations.items.aggregation import list_column
from zreward_core.rubric import Rubric

NEWTON_STEPS = 60
TOLERANCE = 1e-9
UNKNOWN_NUMBER = 1
"""Number of ratings of an opinion that gives none: it is one judgement."""


def opinion_items(opinions: pd.DataFrame, rubric: Rubric) -> pd.DataFrame:
    """One item per item and dimension of the opinions; several are weighted by their ratings.

    Args:
        opinions: rows of ``schemas.OPINIONS``.
        rubric: gives the levels.

    Returns:
        item_id, dimension, score, histogram, num_ratings.
    """
    shares_KS = shares_of_levels(
        opinions["mean"].to_numpy(float), opinions["std"].to_numpy(float), rubric
    )
    given = opinions["histogram"].notna().to_numpy()
    if given.any():
        shares_KS[given] = np.stack(opinions["histogram"][given].to_list())
    numbers_K = opinions["num_ratings"].fillna(UNKNOWN_NUMBER).to_numpy(dtype=np.int64)
    numbers_K = np.maximum(numbers_K, UNKNOWN_NUMBER)
    keys = opinions[["item_id", "dimension"]]
    codes_K = keys.groupby(["item_id", "dimension"], sort=False, observed=True).ngroup().to_numpy()
    first = ~pd.Series(codes_K).duplicated().to_numpy()
    weights = np.bincount(codes_K, weights=numbers_K)
    sums = np.stack(
        [
            np.bincount(codes_K, weights=shares_KS[:, level] * numbers_K)
            for level in range(shares_KS.shape[1])
        ],
        axis=1,
    )
    histograms = sums / weights[:, None]
    return keys[first].assign(
        score=histograms @ np.asarray(rubric.levels),
        histogram=list_column(histograms).to_numpy(),
        num_ratings=weights.astype(np.int64),
    )


def shares_of_levels(means_K: np.ndarray, stds_K: np.ndarray, rubric: Rubric) -> np.ndarray:
    """Shares of the levels with the given means and approximately the given deviations.

    Args:
        means_K: within the scale.
        stds_K: standard deviations; NaN or 0 if unknown.
        rubric: gives the levels.

    Returns:
        [K, S] non-negative shares; rows sum to one and have the given means.
    """
    levels_S = np.asarray(rubric.levels)
    result_KS = _neighbours(means_K, levels_S)
    inside = (means_K > levels_S[0] + 1e-6) & (means_K < levels_S[-1] - 1e-6)
    wide = np.flatnonzero(inside & (np.nan_to_num(stds_K) > 1e-3))
    if len(wide):
        means, stds = means_K[wide, None], stds_K[wide, None]
        start_KS = -((levels_S - means) ** 2) / (2 * stds**2)
        tilts = np.zeros_like(means)
        for _ in range(NEWTON_STEPS):
            shares = softmax(start_KS + tilts * (levels_S - means), axis=1)
            gap = (shares * (levels_S - means)).sum(1, keepdims=True)
            variance = (shares * (levels_S - means) ** 2).sum(1, keepdims=True) - gap**2
            tilts = tilts - np.clip(gap / np.maximum(variance, 1e-12), -2.0, 2.0)
        met = np.abs((shares * levels_S).sum(1) - means[:, 0]) < TOLERANCE
        result_KS[wide[met]] = shares[met]
    return result_KS


def _neighbours(means_K: np.ndarray, levels_S: np.ndarray) -> np.ndarray:
    upper = np.clip(np.searchsorted(levels_S, means_K), 1, len(levels_S) - 1)
    share = (means_K - levels_S[upper - 1]) / (levels_S[upper] - levels_S[upper - 1])
    result = np.zeros((len(means_K), len(levels_S)))
    result[np.arange(len(means_K)), upper] = share
    result[np.arange(len(means_K)), upper - 1] = 1.0 - share
    return result
