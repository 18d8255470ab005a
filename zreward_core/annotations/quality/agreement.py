"""Krippendorff's alpha for ordinal scores, with a bootstrap interval.

Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011),
https://repository.upenn.edu/handle/20.500.14332/2089, sections C (many observers, missing values)
and E (ordinal difference). The ordinal difference of two scores is the squared difference of their
mid-ranks, so alpha is one minus a ratio of two variances of mid-ranks: the cost is linear in the
number of ratings and of distinct scores.

Shapes: N ratings, U units, V distinct scores, B blocks of units, R resamples.
"""

import numpy as np
import pandas as pd
from scipy import sparse

NUM_RESAMPLES = 1000
MAX_BLOCKS = 1000
"""Above this number, equal-size random blocks of units are resampled."""
MAX_VALUES = 64
"""Above this number, scores are merged into equal-size classes for the interval."""
CONFIDENCE = 0.95


def ordinal_alpha(units_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Agreement among raters: 1 is perfect, 0 is chance.

    Args:
        units_N: unit of each rating, as integers from 0; units have any number of ratings.
        scores_N: ordinal scores; only their order and frequency matter.

    Returns:
        alpha; NaN where no unit has two ratings or all their scores are the same.
    """
    units_N, codes_N = _pairable(units_N, scores_N)
    totals_V = np.bincount(codes_N)
    if np.count_nonzero(totals_V) < 2:
        return float("nan")
    ranks_V = np.cumsum(totals_V) - totals_V / 2.0
    number = len(codes_N)
    ranks_N = (ranks_V - number / 2.0)[codes_N]  # their mean is zero
    sizes_U = np.bincount(units_N)
    present = sizes_U > 0
    sums_U = np.bincount(units_N, weights=ranks_N)[present]
    squares_U = np.bincount(units_N, weights=ranks_N**2)[present]
    sizes_U = sizes_U[present]
    observed = (2.0 * (sizes_U * squares_U - sums_U**2) / (sizes_U - 1.0)).sum()
    expected = 2.0 * (number * squares_U.sum() - sums_U.sum() ** 2)
    return float(1.0 - (number - 1.0) * observed / expected)


def alpha_interval(
    units_N: np.ndarray, scores_N: np.ndarray, seed: int, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """Percentile interval (95 %) of alpha, by drawing units with replacement.

    Up to ``MAX_BLOCKS`` units are drawn one by one; more units in that many random blocks, which
    gives the same spread at a cost independent of the number of units.

    Returns:
        (low, high); NaN where alpha is undefined.
    """
    units_N, codes_N = _pairable(units_N, _merged(scores_N))
    if len(codes_N) == 0:
        return float("nan"), float("nan")
    coincidences_BVV = _block_coincidences(units_N, codes_N, seed)
    num_blocks, num_values, _ = coincidences_BVV.shape
    shares_B = np.full(num_blocks, 1.0 / num_blocks)
    rng = np.random.default_rng([seed, num_blocks])
    counts_RB = rng.multinomial(num_blocks, shares_B, size=num_resamples).astype(float)
    drawn_RVV = (counts_RB @ coincidences_BVV.reshape(num_blocks, -1)).reshape(
        -1, num_values, num_values
    )
    alphas_R = _alphas(drawn_RVV)
    alphas_R = alphas_R[~np.isnan(alphas_R)]
    if len(alphas_R) == 0:
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(alphas_R, [tail, 100.0 - tail])
    return float(low), float(high)


def _pairable(units_N: np.ndarray, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Units and score codes of the ratings whose unit has another one; units keep their numbers."""
    if len(scores_N) == 0:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    kept_N = np.bincount(units_N)[units_N] >= 2
    codes_N, _ = pd.factorize(scores_N[kept_N], sort=True)
    return units_N[kept_N], codes_N


def _merged(scores_N: np.ndarray) -> np.ndarray:
    """The scores, or classes of equal size if too many are distinct."""
    codes_N, values_V = pd.factorize(scores_N, sort=True)
    if len(values_V) <= MAX_VALUES:
        return scores_N
    totals_V = np.bincount(codes_N)
    ranks_V = np.cumsum(totals_V) - totals_V / 2.0
    return np.floor(ranks_V / len(scores_N) * MAX_VALUES)[codes_N]


def _block_coincidences(units_N: np.ndarray, codes_N: np.ndarray, seed: int) -> np.ndarray:
    """[B, V, V] sums of the units' coincidence matrices over random blocks of units."""
    num_values = int(codes_N.max()) + 1
    present = np.bincount(units_N) > 0
    dense_N = (np.cumsum(present) - 1)[units_N]
    num_units = int(present.sum())
    counts_UV = sparse.coo_matrix(
        (np.ones(len(codes_N)), (dense_N, codes_N)), shape=(num_units, num_values)
    ).tocsr()
    sizes_U = np.bincount(dense_N)
    weighted_UV = (sparse.diags_array(1.0 / (sizes_U - 1.0)) @ counts_UV).tocsc()
    num_blocks = min(num_units, MAX_BLOCKS)
    block_U = np.random.default_rng([seed, num_units]).permutation(num_units) % num_blocks
    blocks_BU = sparse.csr_array(
        (np.ones(num_units), (block_U, np.arange(num_units))), shape=(num_blocks, num_units)
    )
    result_BVV = np.empty((num_blocks, num_values, num_values))
    for value in range(num_values):
        chosen = weighted_UV.indices[weighted_UV.indptr[value] : weighted_UV.indptr[value + 1]]
        weights = weighted_UV.data[weighted_UV.indptr[value] : weighted_UV.indptr[value + 1]]
        pairs = sparse.diags_array(weights) @ counts_UV[chosen]
        result_BVV[:, value, :] = (blocks_BU[:, chosen] @ pairs).toarray()
    diagonal_BV = (blocks_BU @ weighted_UV).toarray()  # a rating is not paired with itself
    result_BVV[:, range(num_values), range(num_values)] -= diagonal_BV
    return result_BVV


def _alphas(coincidences_RVV: np.ndarray) -> np.ndarray:
    """[R] alphas of coincidence matrices; NaN where undefined."""
    totals_RV = coincidences_RVV.sum(axis=2)
    ranks_RV = np.cumsum(totals_RV, axis=1) - totals_RV / 2.0
    distances_RVV = (ranks_RV[:, :, None] - ranks_RV[:, None, :]) ** 2
    observed_R = (coincidences_RVV * distances_RVV).sum(axis=(1, 2))
    expected_R = np.einsum("rv,rw,rvw->r", totals_RV, totals_RV, distances_RVV)
    number_R = totals_RV.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas_R = 1.0 - (number_R - 1.0) * observed_R / expected_R
    return np.where(expected_R > 0, alphas_R, np.nan)
