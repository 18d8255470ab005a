"""Early stopping of reward tuning.

Shapes: V validations, N prompts, D dimensions.
"""

from collections.abc import Sequence

import numpy as np

from zreward_core.evaluation.paired import hacked_dimensions


def find_hacking(
    panel_VND: np.ndarray,
    reward_VND: np.ndarray,
    dimensions: Sequence[str],
    patience: int,
    seed: int,
) -> tuple[list[str], bool]:
    """Dimensions hacked at the last validation, and whether to stop.

    Tuning stops when each of the last ``patience`` validations has a hacked dimension.

    Args:
        panel_VND, reward_VND: [V, N, D] scores of the same prompts at each validation.
        dimensions: the D names.
        patience: validations in a row.
        seed: of the resamples.
    """
    ends = range(len(panel_VND), max(len(panel_VND) - patience, 0), -1)
    hacked = [
        hacked_dimensions(panel_VND[:end], reward_VND[:end], dimensions, seed) for end in ends
    ]
    return hacked[0], len(hacked) == patience and all(hacked)
