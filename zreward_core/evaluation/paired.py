"""Means of the same images' scores before and after a change, with the paired interval.

Shapes: V validations, N prompts, D dimensions.
"""

from collections.abc import Sequence

import numpy as np

from zreward_core.evaluation.bootstrap import mean_interval, resample

MEAN = "mean"


def compare_means(
    before_ND: np.ndarray, after_ND: np.ndarray, dimensions: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Means before and after, and the 95 % bootstrap interval of their difference over prompts.

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


def hacked_dimensions(
    panel_VND: np.ndarray, reward_VND: np.ndarray, dimensions: Sequence[str], seed: int
) -> list[str]:
    """Dimensions in which the panel's score fell significantly while the trained reward rose.

    The panel is a judge that is never trained on. For each dimension and for the mean, the last
    validation is compared with the validation at which the panel's score was highest. A fall is
    significant if the interval of the difference lies below zero. The mean alone is not sufficient:
    images that exploit the reward can raise the panel's score in most dimensions as well.

    Args:
        panel_VND, reward_VND: [V, N, D] scores of the same prompts at each validation.
        dimensions: the D names.
        seed: of the resamples.

    Returns:
        Names among the dimensions and "mean".
    """
    found = []
    for index, name in enumerate((*dimensions, MEAN)):
        panel_VN, reward_VN = (
            scores[..., index] if index < len(dimensions) else scores.mean(axis=-1)
            for scores in (panel_VND, reward_VND)
        )
        best = int(panel_VN.mean(axis=1).argmax())
        fall = mean_interval(panel_VN[-1] - panel_VN[best], resample(panel_VN.shape[1], seed))
        if fall.high < 0 and reward_VN[-1].mean() > reward_VN[best].mean():
            found.append(name)
    return found
