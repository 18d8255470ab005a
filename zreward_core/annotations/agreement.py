"""Krippendorff's alpha for ordinal scores.

Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011),
https://repository.upenn.edu/handle/20.500.14332/2089, sections C (many observers, missing values)
and E (ordinal difference).

Shapes: N ratings, U units, V distinct scores.
"""

import numpy as np
from scipy import sparse


def ordinal_alpha(units_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Agreement among raters: 1 is perfect, 0 what chance gives.

    Args:
        units_N: what each rating is about, as whole numbers from 0; any number of ratings a unit.
        scores_N: ordered scores; only their order and frequency count.

    Returns:
        alpha; NaN where no unit has two ratings or all their scores are the same.
    """
    if len(scores_N) == 0:
        return float("nan")
    values_V, codes_N = np.unique(scores_N, return_inverse=True)
    counts_UV = sparse.coo_matrix(
        (np.ones(len(codes_N)), (units_N, codes_N)), shape=(int(units_N.max()) + 1, len(values_V))
    ).tocsr()
    ratings_U = np.asarray(counts_UV.sum(axis=1)).ravel()
    pairable = ratings_U >= 2
    counts_UV = counts_UV[pairable]
    weighted_UV = sparse.diags_array(1.0 / (ratings_U[pairable] - 1.0)) @ counts_UV
    coincidences_VV = np.asarray((counts_UV.T @ weighted_UV).todense())
    coincidences_VV -= np.diag(np.asarray(weighted_UV.sum(axis=0)).ravel())
    totals_V = coincidences_VV.sum(axis=1)
    distances_VV = _ordinal_distances(totals_V)
    expected = totals_V @ distances_VV @ totals_V
    if expected == 0.0:
        return float("nan")
    observed = (coincidences_VV * distances_VV).sum()
    return float(1.0 - (totals_V.sum() - 1.0) * observed / expected)


def _ordinal_distances(totals_V: np.ndarray) -> np.ndarray:
    """Squared ordinal difference: the values between two ranks, the ends counted half."""
    middles_V = np.cumsum(totals_V) - totals_V / 2.0
    return (middles_V[:, None] - middles_V[None, :]) ** 2
