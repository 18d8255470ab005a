"""Sampling from a `ZImagePipeline`, with and without gradients.

Shapes: B images, C latent channels, H x W pixels, h x w latents. Every image has a seed of its
own, so a sample does not depend on what else is in its batch.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.z_image.pipeline_z_image import (
    calculate_shift,
    get_default_z_image_sigmas,
)
from torch import Tensor

from zreward_core.diffusion.generator import Pipeline

MAX_PROMPT_TOKENS = 512
"""What `ZImagePipeline` cuts prompts to unless the tokenizer's own limit is lower."""
TIME_STEPS = 1000
"""`ZImagePipeline` counts time from 0 (noise) to this many steps (image)."""


@dataclass(frozen=True)
class Conditions:
    """What a velocity depends on besides latents and time."""

    captions: list[Tensor]
    """B features [T_b, text width] of the prompts."""
    empty: list[Tensor]
    """B features of the empty prompt; nothing without guidance."""
    guidance_scale: float
    """Weight of classifier-free guidance; 0 is none."""


@dataclass(frozen=True)
class Step:
    """One denoising step that gradients passed through."""

    latents: Tensor
    """[B, C, h, w] what the velocity was computed at, detached."""
    timestep: Tensor
    """Scalar time of the scheduler."""
    velocity: Tensor
    """[B, C, h, w] with gradients."""


@dataclass(frozen=True)
class Samples:
    """Images with gradients, and the steps by which gradients reach the transformer."""

    pixels: Tensor
    """[B, 3, H, W] in [0, 1]."""
    steps: list[Step]
    """The steps with gradients, in order."""
    conditions: Conditions
    """What all velocities depended on."""


def initial_latents(pipe: Pipeline, seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Noise [B, C, h, w] for images of a size (width, height), one seed for each."""
    width, height = size
    cell = pipe.vae_scale_factor * 2
    shape = (pipe.transformer.config.in_channels, 2 * (height // cell), 2 * (width // cell))
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(noise).to(pipe.device)


@torch.no_grad()
def sample(
    pipe: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    num_steps: int,
    guidance_scale: float,
    size: tuple[int, int],
    batch_size: int = 64,
    precision: AbstractContextManager | None = None,
) -> Tensor:
    """Sample one image for each prompt and seed through ``pipe()`` itself.

    Args:
        pipe: the generator.
        prompts: B prompts.
        seeds: B seeds.
        num_steps: denoising steps.
        guidance_scale: weight of classifier-free guidance; 0 is none.
        size: (width, height) in pixels.
        batch_size: images at a time.
        precision: context of the denoising steps, e.g. ``torch.autocast``; the VAE is outside.

    Returns:
        [B, 3, H, W] uint8.
    """
    width, height = size
    images = [torch.empty(0, 3, height, width, dtype=torch.uint8)]
    for start in range(0, len(prompts), batch_size):
        chosen = slice(start, start + batch_size)
        with precision or nullcontext():
            latents = pipe(
                prompt=list(prompts[chosen]),
                width=width,
                height=height,
                latents=initial_latents(pipe, seeds[chosen], size),
                num_inference_steps=num_steps,
                guidance_scale=guidance_scale,
                max_sequence_length=max_prompt_tokens(pipe),
                output_type="latent",
            ).images
        pixels = decode_latents(pipe, latents)
        images.append((pixels * 255).round().to("cpu", torch.uint8))
    return torch.cat(images)


def sample_with_gradients(
    pipe: Pipeline,
    prompts: Sequence[str],
    latents: Tensor,
    *,
    num_steps: int,
    gradient_steps: Collection[int],
    guidance_scale: float,
) -> Samples:
    """Sample as ``pipe()`` does, differentiable in the transformer's weights.

    Gradients pass through the VAE and the chosen denoising steps, each with all it depends on; the
    velocities of the other steps count as constants. Steps before the first chosen one cost no
    memory. Checkpointing is the transformer's own (``enable_gradient_checkpointing``).

    Args:
        pipe: the generator; the transformer's trainable weights receive the gradients.
        prompts: B prompts.
        latents: [B, C, h, w] initial noise, see ``initial_latents``.
        num_steps: denoising steps.
        gradient_steps: indices of the chosen steps, 0 the noisiest.
        guidance_scale: weight of classifier-free guidance; 0 is none.
    """
    conditions = encode_prompts(pipe, prompts, guidance_scale)
    scheduler = scheduler_for(pipe, latents, num_steps)
    steps = []
    for index, timestep in enumerate(scheduler.timesteps):
        wanted = index in gradient_steps
        with torch.set_grad_enabled(wanted):
            speed = velocity(pipe.transformer, latents, timestep, conditions)
        if wanted:
            steps.append(Step(latents.detach(), timestep, speed))
        latents = scheduler.step(speed, timestep, latents, return_dict=False)[0]
    return Samples(decode_latents(pipe, latents), steps, conditions)


@torch.no_grad()
def encode_prompts(pipe: Pipeline, prompts: Sequence[str], guidance_scale: float) -> Conditions:
    """Features of prompts, and of the empty prompt where guidance asks for it."""
    captions, empty = pipe.encode_prompt(
        list(prompts),
        do_classifier_free_guidance=guidance_scale > 0,
        max_sequence_length=max_prompt_tokens(pipe),
    )
    return Conditions(captions, empty, guidance_scale)


def velocity(transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
    """Guided velocity [B, C, h, w] in float32, as ``pipe()`` computes it.

    Args:
        transformer: the velocity model.
        latents: [B, C, h, w].
        timestep: scalar time of the scheduler.
        conditions: prompts and guidance.
    """
    captions = conditions.captions
    inputs = latents.to(transformer.dtype)
    if conditions.guidance_scale > 0:
        captions, inputs = captions + conditions.empty, inputs.repeat(2, 1, 1, 1)
    time = ((TIME_STEPS - timestep) / TIME_STEPS).expand(len(inputs))
    output = transformer(list(inputs.unsqueeze(2).unbind(0)), time, captions, return_dict=False)[0]
    negated = torch.stack(output).squeeze(2).float()
    if conditions.guidance_scale > 0:
        with_prompt, without = negated.chunk(2)
        negated = with_prompt + conditions.guidance_scale * (with_prompt - without)
    return -negated


def scheduler_for(pipe: Pipeline, latents: Tensor, num_steps: int) -> Any:
    """A scheduler of the pipeline's configuration, set to the steps that ``pipe()`` takes."""
    config = pipe.scheduler.config
    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(config)
    shift = calculate_shift(
        (latents.shape[2] // 2) * (latents.shape[3] // 2),
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    scheduler.set_timesteps(
        sigmas=get_default_z_image_sigmas(num_steps), mu=shift, device=latents.device
    )
    scheduler.set_begin_index(0)
    return scheduler


def decode_latents(pipe: Pipeline, latents: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in [0, 1] of scaled latents."""
    vae = pipe.vae
    unscaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    decoded = vae.decode(unscaled, return_dict=False)[0]
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def max_prompt_tokens(pipe: Pipeline) -> int:
    """Tokens a prompt may have, its turn's marks included."""
    return min(MAX_PROMPT_TOKENS, pipe.tokenizer.model_max_length)
