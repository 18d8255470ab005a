"""Losses for pretraining the tiny Z-Image: VAE reconstruction and flow matching.

Shapes: B images, C latent channels, H x W pixels, h x w latents.
"""

from typing import Any

import torch
from torch import Tensor

KL_WEIGHT = 1e-3
"""Weight of the divergence from a unit Gaussian, per latent element."""


def reconstruction_loss(
    vae: Any, pixels: Tensor, generator: torch.Generator, own: range | None = None
) -> Tensor:
    """Mean L1 plus squared reconstruction error, plus a weak Kullback-Leibler term.

    Args:
        vae: an `AutoencoderKL`.
        pixels: [B, 3, H, W] in [-1, 1].
        generator: source of the latents' noise.
        own: images to compute, all by default. Noise is drawn for all images, so that a part of a
            batch does not depend on how the batch is divided. The loss is the mean over the part.
    """
    own = range(len(pixels)) if own is None else own
    shape = (len(pixels), *latent_shape(vae, pixels))
    noise = torch.randn(shape, generator=generator)[own.start : own.stop]
    pixels = pixels[own.start : own.stop]
    posterior = vae.encode(pixels).latent_dist
    decoded = vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0]
    error = decoded - pixels
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return error.abs().mean() + error.square().mean() + KL_WEIGHT * divergence


def latent_shape(vae: Any, pixels: Tensor) -> tuple[int, int, int]:
    """(C, h, w) of the latents of pixels [B, 3, H, W]."""
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    return vae.config.latent_channels, pixels.shape[-2] // scale, pixels.shape[-1] // scale


def encode_captions(text_encoder: Any, tokens: Any) -> list[Tensor]:
    """Caption features that `ZImagePipeline` uses: the penultimate layer, without padding.

    Args:
        text_encoder: a decoder-only text model.
        tokens: tokenizer output with ``input_ids`` and ``attention_mask``, padded on the right.

    Returns:
        B tensors [T_b, text width].
    """
    mask = tokens["attention_mask"].bool()
    hidden = text_encoder(
        input_ids=tokens["input_ids"], attention_mask=mask, output_hidden_states=True
    ).hidden_states[-2]
    return [hidden[index][mask[index]] for index in range(len(hidden))]


def flow_matching_loss(
    transformer: Any,
    latents: Tensor,
    captions: list[Tensor],
    noise: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """Mean squared error of the velocity noise - latents at noise level sigma.

    The transformer predicts the negated velocity and takes 1 - sigma as time.

    Args:
        transformer: a `ZImageTransformer2DModel`.
        latents: [B, C, h, w] scaled latents of images.
        captions: B tensors [T_b, text width].
        noise: [B, C, h, w] standard normal.
        sigmas: [B] noise levels in (0, 1).
    """
    level = sigmas.view(-1, 1, 1, 1)
    noisy = (1 - level) * latents + level * noise
    inputs = list(noisy.unsqueeze(2).unbind(0))
    output = transformer(inputs, 1 - sigmas, captions, return_dict=False)[0]
    return (torch.stack(output).squeeze(2) - (latents - noise)).square().mean()


def draw_sigmas(count: int, mean: float, generator: torch.Generator) -> Tensor:
    """Noise levels [count]: 90 % logit-normal with unit deviation, 10 % uniform over (0, 1)."""
    normal = torch.sigmoid(torch.randn(count, generator=generator) + mean)
    uniform = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.1, uniform, normal)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random number generator of one training step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
