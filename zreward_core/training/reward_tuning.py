"""The loss of reward tuning: equation 20 of Z-Reward (arXiv:2606.09076), with a regularizer.

Shapes: B images, D dimensions.
"""

import torch
from torch import Tensor

from zreward_core.diffusion.sampling import Samples
from zreward_core.diffusion.tuning import Velocity
from zreward_core.losses.refl import aggregate_rewards, refl_loss, velocity_distance
from zreward_core.models.scorer import RewardModel
from zreward_core.runtime.distributed import precision
from zreward_core.training.updates import LossAndMetrics


def tuning_loss(
    samples: Samples,
    prompts: list[str],
    reward: RewardModel,
    weights_D: Tensor | None,
    frozen: Velocity,
    velocity_weight: float,
    num_images: int,
) -> LossAndMetrics:
    """Equation 20 as a loss plus the velocity regularizer, on some images of a step.

    Args:
        samples: B images with gradients.
        prompts: B prompts.
        weights_D: [D] weights of Agg; None for the plain mean.
        frozen: velocity of the generator before tuning.
        velocity_weight: weight of the regularizer.
        num_images: images of the whole step.
    """
    with precision():
        rewards = reward.reward(prompts, samples.pixels)
    weights_D = None if weights_D is None else weights_D.to(rewards)
    loss = refl_loss(rewards, num_images, weights_D)
    aggregate = aggregate_rewards(rewards.detach(), weights_D)
    metrics = {"tune/reward": aggregate.sum().item() / num_images}
    if velocity_weight > 0:
        with precision():
            distances = [
                velocity_distance(
                    step.velocity,
                    frozen(step.latents, step.timestep, samples.conditions),
                    num_images * len(samples.steps),
                )
                for step in samples.steps
            ]
        distance = torch.stack(distances).sum()
        loss = loss + velocity_weight * distance
        metrics["tune/velocity_distance"] = distance.item()
    return loss, metrics
