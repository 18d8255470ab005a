"""Interface to a diffusers pipeline, for sampling and tuning.

A supported pipeline class has a module in this package and an entry in `loading.GENERATORS`.

Shapes: B images, C latent channels, H x W pixels, h x w latents. Latents are [B, C, h, w]
everywhere; a pipeline that packs them into 2 x 2 patches does so inside its own methods.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from zreward_core.config import UserError

TIME_STEPS = 1000
"""Largest time of the schedulers; transformers take a share of it."""


@dataclass(frozen=True)
class Conditions:
    """Inputs of the velocity other than latents and time."""

    prompt: dict[str, Any]
    """Transformer inputs computed from the B prompts."""
    empty: dict[str, Any] | None
    """The same for the empty prompt; None without classifier-free guidance."""
    guidance_scale: float
    """Guidance scale as the pipeline defines it."""


class ImageGenerator(ABC):
    """A text-to-image pipeline, and the parts of its ``__call__`` that gradients pass through."""

    lora_targets: ClassVar[list[str]]
    """Names of the linear layers of the transformer that LoRA adapts."""
    packed: ClassVar[bool] = False
    """Whether the transformer takes latents as patches [B, h w / 4, 4 C]."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @abstractmethod
    def encode(self, prompts: Sequence[str], guidance_scale: float) -> Conditions:
        """Encode B prompts, and the empty prompt if the guidance scale calls for it."""

    @abstractmethod
    def velocity(
        self, transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        """Guided velocity [B, C, h, w] in float32, computed as ``pipe()`` computes it.

        Args:
            transformer: the pipeline's own, or a copy of it with other weights.
            latents: [B, C, h, w].
            timestep: scalar time of the scheduler.
            conditions: of the B prompts.
        """

    @abstractmethod
    def call_arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        """Arguments of ``pipe()`` that differ between pipeline classes, guidance above all."""

    @abstractmethod
    def schedule(self, num_steps: int, shift: float) -> dict[str, Any]:
        """Arguments of the scheduler's ``set_timesteps`` in ``pipe()``.

        Args:
            num_steps: denoising steps.
            shift: resolution-dependent shift (mu) of the noise levels.
        """

    @property
    def max_patches(self) -> int | None:
        """Patches along a side of the image that the transformer has positions for; None: any."""
        return None

    @property
    def transformer(self) -> Any:
        """The velocity model."""
        return self.pipe.transformer

    @property
    def text_encoders(self) -> list[nn.Module]:
        """The models that encode prompts; they may be on the CPU between two encodings."""
        return [
            part
            for name, part in self.pipe.components.items()
            if name.startswith("text_encoder") and part is not None
        ]

    def initial_latents(self, seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
        """Noise [B, C, h, w] for images of a size (width, height), one seed for each image.

        Raises:
            UserError: a side is not a multiple of the pipeline's patch, or exceeds its positions.
        """
        scale = self.pipe.vae_scale_factor
        if any(side <= 0 or side % (2 * scale) for side in size):
            raise UserError(
                f"params.yaml: 'size' {list(size)} does not fit {type(self.pipe).__name__}:"
                f" give multiples of {2 * scale} pixels"
            )
        longest = math.inf if self.max_patches is None else self.max_patches * 2 * scale
        if max(size) > longest:
            raise UserError(
                f"params.yaml: 'size' {list(size)} is too large for this"
                f" {type(self.pipe).__name__}: its sides have at most {longest} pixels"
            )
        width, height = size
        channels = self.transformer.config.in_channels // (4 if self.packed else 1)
        shape = (channels, height // scale, width // scale)
        noise = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        return torch.stack(noise).to(self.pipe.device)

    def scheduler(self, latents: Tensor, num_steps: int) -> Any:
        """A copy of the pipeline's scheduler, set to the steps that ``pipe()`` takes."""
        config = self.pipe.scheduler.config
        shift = calculate_shift(
            latents.shape[2] // 2 * (latents.shape[3] // 2),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        scheduler: Any = type(self.pipe.scheduler).from_config(config)
        scheduler.set_timesteps(device=latents.device, **self.schedule(num_steps, shift))
        scheduler.set_begin_index(0)
        return scheduler

    def denoise(
        self, prompts: Sequence[str], latents: Tensor, num_steps: int, guidance_scale: float
    ) -> Tensor:
        """Denoise initial latents [B, C, h, w] with ``pipe()`` itself."""
        scale = self.pipe.vae_scale_factor
        denoised = self.pipe(
            prompt=list(prompts),
            height=latents.shape[2] * scale,
            width=latents.shape[3] * scale,
            latents=pack(latents) if self.packed else latents,
            num_inference_steps=num_steps,
            output_type="latent",
            **self.call_arguments(prompts, guidance_scale),
        ).images
        return unpack(denoised, latents) if self.packed else denoised

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1] of scaled latents; gradients pass."""
        vae = self.pipe.vae
        unscaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return to_pixels(vae.decode(unscaled, return_dict=False)[0])


def to_pixels(decoded: Tensor) -> Tensor:
    """Map the VAE's output in [-1, 1] to [0, 1]."""
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def pack(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] as 2 x 2 patches [B, h w / 4, 4 C]."""
    return pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(patches: Tensor, like: Tensor) -> Tensor:
    """Inverse of `pack`, for latents of the shape of ``like``."""
    sides = (like.shape[2] // 2, like.shape[3] // 2)
    return pixel_shuffle(patches.transpose(1, 2).unflatten(2, sides), 2)
