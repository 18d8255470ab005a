"""Sensitivity of a judge to each kind of defect: the matrix of defects against dimensions.

Shapes: N images, K kinds of defect, D dimensions.
"""

import numpy as np


def points_lost(scores_ND: np.ndarray, severities_NK: np.ndarray) -> np.ndarray:
    """Points that one level of each kind of defect costs in each dimension, [K, D].

    A least-squares fit of scores on severities with an intercept, which separates kinds of defect
    that occur together. Negative if a defect raises the score, NaN for a kind that no image has.

    Args:
        scores_ND: a judge's scores in rubric points; NaN if an image has no score in a dimension.
        severities_NK: severity of each kind in each image (levels, or cells affected).
    """
    lost_KD = np.full((severities_NK.shape[1], scores_ND.shape[1]), np.nan)
    varied_K = np.ptp(severities_NK, axis=0) > 0
    columns = np.column_stack([np.ones(len(scores_ND)), severities_NK[:, varied_K]])
    for dimension, scores_N in enumerate(scores_ND.T):
        known_N = ~np.isnan(scores_N)
        solution, *_ = np.linalg.lstsq(columns[known_N], scores_N[known_N], rcond=None)
        lost_KD[varied_K, dimension] = -solution[1:]
    return lost_KD
