"""Reward back-propagation into the generator: equation 20 of Z-Reward (arXiv:2606.09076).

Shapes: B images, D dimensions; ``[B, ...]`` is a velocity of any further shape.
"""

from torch import Tensor

from zreward_core.losses.sums import divide


def aggregate_rewards(rewards_BD: Tensor, weights_D: Tensor | None = None) -> Tensor:
    """R(p, I), equation 20: Agg over the dimensions' expected scores.

    The paper leaves Agg to the task; here it is the mean, weighted by weights_D if given.

    Args:
        rewards_BD: [B, D] mu_phi(p, I, d); gradients pass.
        weights_D: [D] non-negative weights, not all zero.

    Returns:
        [B] rewards in rubric units.
    """
    if weights_D is None:
        return rewards_BD.mean(dim=-1)
    return (rewards_BD * weights_D).sum(dim=-1) / weights_D.sum()


def refl_loss(
    rewards_BD: Tensor, num_images: float | Tensor, weights_D: Tensor | None = None
) -> Tensor:
    """-R(p, I), averaged over images: equation 20 as a loss.

    ReFL (arXiv:2304.05977) without its hinge, since the reward is bounded by the rubric's scale.
    """
    return divide(-aggregate_rewards(rewards_BD, weights_D).sum(), num_images)


def velocity_distance(
    velocity_B: Tensor, frozen_velocity_B: Tensor, num_images: float | Tensor
) -> Tensor:
    """Mean squared distance to the frozen generator's velocity, averaged over images.

    Not in the paper: a velocity regularizer that keeps the tuned generator near its base.

    Args:
        velocity_B: [B, ...] velocity of the tuned generator.
        frozen_velocity_B: [B, ...] that of the frozen generator at the same input; no gradients.
        num_images: images in the whole batch.
    """
    squared_B = (velocity_B - frozen_velocity_B.detach()).square().flatten(1)
    return divide(squared_B.mean(dim=-1).sum(), num_images)
