"""Means of the same images' scores before and after a change, with the paired interval.

Shapes: N prompts, D dimensions.
"""

from collections.abc import Sequence

import numpy as np

from zreward_core.evaluation.bootstrap import mean_interval, resample

MEAN = "mean"


def compare_means(
    before_ND: np.ndarray, after_ND: np.ndarray, dimensions: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Means before and after, and the 95 % interval of their difference over prompts.

    Args:
        before_ND, after_ND: [N, D] scores of one image of each prompt.
        dimensions: the D names.
        seed: of the resamples.

    Returns:
        {DIMENSION or "mean": {"before", "after", "low", "high"}}.
    """
    counts = resample(len(before_ND), seed)
    columns = {name: (before_ND[:, d], after_ND[:, d]) for d, name in enumerate(dimensions)}
    columns[MEAN] = (before_ND.mean(axis=1), after_ND.mean(axis=1))
    result = {}
    for name, (old_N, new_N) in columns.items():
        interval = mean_interval(new_N - old_N, counts)
        result[name] = {
            "before": float(old_N.mean()),
            "after": float(new_N.mean()),
            "low": interval.low,
            "high": interval.high,
        }
    return result
