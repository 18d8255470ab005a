"""Sampling from a generator, with and without gradients.

Shapes: B images, C latent channels, H x W pixels, h x w latents. Every image has its own
seed, so a sample does not depend on the rest of its batch.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zreward_core.diffusion.generator import Conditions, ImageGenerator
from zreward_core.offloading import placed
from zreward_core.schemas import NotFinite

PIXELS_AT_A_TIME = 4 * 1024**2
"""Pixels of the images that are sampled together: the VAE's memory is proportional to them."""


@dataclass(frozen=True)
class Step:
    """One denoising step with gradients."""

    latents: Tensor
    """[B, C, h, w] input of the velocity, detached."""
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
    """Conditions of every velocity."""


@torch.no_grad()
def sample(
    generator: ImageGenerator,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    num_steps: int,
    guidance_scale: float,
    size: tuple[int, int],
    batch_size: int | None = None,
) -> Tensor:
    """Sample one image for each prompt and seed through ``pipe()`` itself.

    Args:
        generator: the generator.
        prompts: B prompts.
        seeds: B seeds.
        num_steps: denoising steps.
        guidance_scale: guidance scale as the pipeline defines it.
        size: (width, height) in pixels.
        batch_size: images at a time; as many as have ``PIXELS_AT_A_TIME`` by default, at most 64.

    Returns:
        [B, 3, H, W] uint8.

    Raises:
        NotFinite: the generator computes NaN or infinity, which would be shown as black or white.
    """
    width, height = size
    batch_size = batch_size or min(64, max(1, PIXELS_AT_A_TIME // (width * height)))
    images = [torch.empty(0, 3, height, width, dtype=torch.uint8)]
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        noise = generator.initial_latents(seeds[batch], size)
        latents = generator.denoise(prompts[batch], noise, num_steps, guidance_scale)
        pixels = generator.decode(latents)
        if not bool(torch.isfinite(latents).all() & torch.isfinite(pixels).all()):
            raise NotFinite(
                f"{generator.pipe.name_or_path or 'the generator'}: samples are not finite,"
                " as after training that diverged; train the generator again with a lower learning"
                " rate"
            )
        images.append((pixels * 255).round().to("cpu", torch.uint8))
    return torch.cat(images)


def sample_with_gradients(
    generator: ImageGenerator,
    prompts: Sequence[str],
    latents: Tensor,
    *,
    num_steps: int,
    gradient_steps: Collection[int],
    guidance_scale: float,
) -> Samples:
    """Sample as ``pipe()`` does, differentiable in the transformer's weights.

    Gradients pass through the VAE and the chosen denoising steps, including the dependence of each
    chosen step on earlier chosen ones; the velocities of the other steps are constants. Steps
    before the first chosen one use no memory for gradients; for gradient checkpointing see
    ``tuning.recompute_activations``. Latents stay in float32.

    Args:
        generator: the generator; the transformer's trainable weights receive the gradients.
        prompts: B prompts.
        latents: [B, C, h, w] initial noise, see ``ImageGenerator.initial_latents``.
        num_steps: denoising steps.
        gradient_steps: indices of the chosen steps, 0 the noisiest.
        guidance_scale: guidance scale as the pipeline defines it.
    """
    with placed(generator.text_encoders, generator.pipe.device):
        conditions = generator.encode(prompts, guidance_scale)
    scheduler = generator.scheduler(latents, num_steps)
    steps = []
    for index, timestep in enumerate(scheduler.timesteps):
        chosen = index in gradient_steps
        with torch.set_grad_enabled(chosen):
            velocity = generator.velocity(generator.transformer, latents, timestep, conditions)
        if chosen:
            steps.append(Step(latents.detach(), timestep, velocity))
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return Samples(generator.decode(latents), steps, conditions)
