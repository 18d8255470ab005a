"""flow_grpo and DiffusionNFT: an entry of ``score_functions`` in ``flow_grpo/rewards.py``."""

from collections.abc import Callable, Sequence
from typing import Any

from zreward_core.integrations.rewards import open_reward

RewardFunction = Callable[[Any, Sequence[str], Any], tuple[list[float], dict]]


def zreward_score(
    source: str, dimension: str | None = None, dtype: str = "auto"
) -> Callable[[Any], RewardFunction]:
    """A factory for ``score_functions``.

    Args:
        source: folder, models:/ URI or hub id of a student.
        dimension: whose mean is the reward; overall if None.
        dtype: of the weights.

    Returns:
        ``f(device)``, which returns ``_fn(images, prompts, metadata)``. Images are a tensor
        [B, 3, H, W] of floats in [0, 1], or an array [B, H, W, 3] of uint8.
    """

    def load(device: Any) -> RewardFunction:  # flow_grpo looks for the name of this argument
        reward = open_reward(source, dimension, device, dtype)

        def _fn(images: Any, prompts: Sequence[str], metadata: Any) -> tuple[list[float], dict]:
            return reward(list(prompts), list(images)), {}

        return _fn

    return load
