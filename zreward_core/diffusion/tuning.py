"""What reward back-propagation changes in a generator, and what it is held to.

Shapes: B images, C latent channels, h x w latents.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from zreward_core.diffusion.sampling import Conditions, velocity

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"]
"""Matrices of a Z-Image layer that adapters are put on."""

Velocity = Callable[[Tensor, Tensor, Conditions], Tensor]
"""latents [B, C, h, w], timestep, conditions -> velocity [B, C, h, w]."""


def open_weights(
    transformer: Any, lora_rank: int | None, lora_alpha: int, seed: int
) -> tuple[dict[str, nn.Parameter], Velocity]:
    """Make a transformer trainable, as a whole or by adapters that start as no change.

    Args:
        transformer: loaded without gradients.
        lora_rank: rank of the adapters, or None to train all weights.
        lora_alpha: scale of the adapters times their rank.
        seed: of the adapters' random half.

    Returns:
        The trainable weights by name, and the velocity of the generator as it was.
    """
    if lora_rank is None:
        frozen = copy.deepcopy(transformer)
        transformer.requires_grad_(True)
        return dict(transformer.named_parameters()), _frozen_velocity(frozen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(
            LoraConfig(r=lora_rank, lora_alpha=lora_alpha, target_modules=LORA_TARGETS)
        )
    weights = {n: p for n, p in transformer.named_parameters() if "lora_" in n}
    for weight in weights.values():
        weight.requires_grad_(True)

    @torch.no_grad()
    def without_adapters(latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        transformer.disable_adapters()
        try:
            return velocity(transformer, latents, timestep, conditions)
        finally:
            transformer.enable_adapters()
            for weight in weights.values():
                weight.requires_grad_(True)

    return weights, without_adapters


def close_weights(transformer: Any, lora_rank: int | None) -> None:
    """Fold adapters into the weights and stop gradients: a plain transformer is left."""
    if lora_rank is not None:
        transformer.fuse_lora()
        transformer.unload_lora()
    transformer.requires_grad_(False)


@contextmanager
def swapped(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> Iterator[None]:
    """Put other values into weights for the length of a block."""
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    assign(weights, values)
    try:
        yield
    finally:
        assign(weights, kept)


@torch.no_grad()
def assign(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Copy values into weights of the same names."""
    for name, weight in weights.items():
        weight.copy_(values[name])


@torch.no_grad()
def update_average(
    average: dict[str, Tensor], weights: dict[str, nn.Parameter], decay: float, step: int
) -> None:
    """Exponential moving average of the weights, in place.

    The decay grows from 0 towards its value, so that the start is forgotten soon.

    Args:
        average: of the weights so far.
        weights: after the step.
        decay: of the average.
        step: number of the step, from 0.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for name, weight in weights.items():
        average[name].lerp_(weight.detach().to(average[name].dtype), 1 - decay)


def choose_steps(
    num_steps: int, count: int, window: int, generator: torch.Generator
) -> tuple[int, ...]:
    """Indices of the denoising steps that carry gradients.

    ``count`` of the last ``window`` steps, at random (ReFL draws one step, AlignProp and DRaFT take
    the last ones: a window equal to the count).
    """
    window = min(window, num_steps)
    drawn = torch.randperm(window, generator=generator)[: min(count, window)]
    return tuple(sorted((num_steps - window + drawn).tolist()))


def _frozen_velocity(frozen: Any) -> Velocity:
    @torch.no_grad()
    def compute(latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        return velocity(frozen, latents, timestep, conditions)

    return compute
