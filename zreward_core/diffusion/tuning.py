"""Trainable weights of a generator under reward back-propagation, and the frozen reference.

Shapes: B images, C latent channels, h x w latents.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from diffusers.training_utils import EMAModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from zreward_core.adapters import NAME, keep_float32, merge
from zreward_core.diffusion.generator import Conditions, ImageGenerator

Velocity = Callable[[Tensor, Tensor, Conditions], Tensor]
"""latents [B, C, h, w], timestep, conditions -> velocity [B, C, h, w]."""


def open_weights(
    generator: ImageGenerator, lora_rank: int | None, lora_alpha: int, seed: int
) -> tuple[dict[str, nn.Parameter], Velocity]:
    """Make the transformer trainable: all weights, or adapters that initially change nothing.

    Args:
        generator: loaded without gradients.
        lora_rank: rank of the adapters, or None to train all weights.
        lora_alpha: scale of the adapters times their rank.
        seed: of the adapters' random initialization.

    Returns:
        The trainable weights by name, and the velocity of the generator before any training.
    """
    transformer = generator.transformer
    if lora_rank is None:
        original = copy.deepcopy(transformer)
        transformer.requires_grad_(True)

        @torch.no_grad()
        def frozen(latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
            return generator.velocity(original, latents, timestep, conditions)

        return dict(transformer.named_parameters()), frozen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(
            LoraConfig(r=lora_rank, lora_alpha=lora_alpha, target_modules=generator.lora_targets)
        )
    keep_float32(transformer)
    weights = {n: p for n, p in transformer.named_parameters() if "lora_" in n}
    for weight in weights.values():
        weight.requires_grad_(True)

    @torch.no_grad()
    def without_adapters(latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        transformer.disable_adapters()
        try:
            return generator.velocity(transformer, latents, timestep, conditions)
        finally:
            transformer.enable_adapters()
            for weight in weights.values():
                weight.requires_grad_(True)

    return weights, without_adapters


def close_weights(transformer: Any, lora_rank: int | None) -> None:
    """Merge the adapters, in float32, into the weights of the transformer and freeze it."""
    if lora_rank is not None:
        merge(transformer)
        transformer.unload_lora()
    transformer.requires_grad_(False)


def save_adapters(generator: ImageGenerator, folder: Path) -> None:
    """Write the transformer's adapters as diffusers does, but so that equal ones have equal bytes.

    Its own function writes two keys of metadata, whose order safetensors leaves to chance.
    """
    transformer = generator.transformer
    settings = {
        f"transformer.{name}": sorted(value) if isinstance(value, set) else value
        for name, value in transformer.peft_config[NAME].to_dict().items()
    }
    state = get_peft_model_state_dict(transformer)
    folder.mkdir(parents=True)
    save_file(
        {f"transformer.{name}": value.contiguous() for name, value in state.items()},
        folder / LORA_WEIGHT_NAME_SAFE,
        metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(settings, sort_keys=True)},
    )


def recompute_activations(generator: ImageGenerator) -> None:
    """Recompute the activations of transformer and VAE in the backward pass, to save memory."""
    for part in (generator.transformer, generator.pipe.vae):
        if part._supports_gradient_checkpointing:  # Qwen-Image's VAE does not
            part.enable_gradient_checkpointing()


def moving_average(weights: dict[str, nn.Parameter], decay: float) -> EMAModel:
    """Exponential moving average of weights, in float32: in bfloat16 small updates would vanish."""
    average = EMAModel(weights.values(), decay=decay)
    average.to(dtype=torch.float32)
    return average


@contextmanager
def averaged(weights: dict[str, nn.Parameter], average: EMAModel) -> Iterator[None]:
    """Set the weights to their average within a block."""
    average.store(weights.values())
    average.copy_to(weights.values())
    try:
        yield
    finally:
        average.restore(weights.values())


def choose_steps(
    num_steps: int, count: int, window: int, generator: torch.Generator
) -> tuple[int, ...]:
    """Indices of the denoising steps that carry gradients: ``count`` of the last ``window`` ones.

    ReFL draws one step; AlignProp and DRaFT take the last ones (a window equal to the count).
    """
    window = min(window, num_steps)
    drawn = torch.randperm(window, generator=generator)[: min(count, window)]
    return tuple(sorted((num_steps - window + drawn).tolist()))
