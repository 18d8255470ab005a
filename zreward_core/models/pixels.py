"""From images to the patches of a Qwen vision tower, differentiable in the pixels.

Training, labelling, scoring and reward all preprocess images here. The arithmetic is that of
transformers' ``Qwen2VLImageProcessor`` on torch tensors; a test bounds the difference on images
that are resized.

Shapes: B images, H height, W width, N patches of all images together, P values of a patch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from zreward_core.config import UserError


class PixelPath:
    """Resizing, normalisation and cutting into patches, by the settings of a checkpoint."""

    def __init__(self, processor: Qwen2VLImageProcessorPil, max_pixels: int | None = None) -> None:
        """Use a checkpoint's image processor.

        Args:
            max_pixels: replaces the processor's own upper limit on an image's pixels.

        Raises:
            UserError: max_pixels is below the processor's lower limit.
        """
        if max_pixels is not None:
            least = processor.size["shortest_edge"]
            if max_pixels < least:
                raise UserError(
                    f"max_pixels {max_pixels} is below {least}, the size to which the checkpoint "
                    "enlarges smaller images: raise base_vlm's max_pixels in params.yaml"
                )
            processor.size = {"shortest_edge": least, "longest_edge": max_pixels}
        self.processor = processor
        self.patch = processor.patch_size
        self.merge = processor.merge_size
        self.temporal = processor.temporal_patch_size
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
            for values in (processor.image_mean, processor.image_std)
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, revision: str = "main", max_pixels: int | None = None
    ) -> "PixelPath":
        """Read preprocessor_config.json of a checkpoint."""
        processor = Qwen2VLImageProcessorPil.from_pretrained(
            str(folder), revision=revision, trust_remote_code=False
        )
        return cls(processor, max_pixels)

    def require_fit(self, config: Any, source: str) -> None:
        """Check that the patches are those of a model's vision tower.

        Args:
            config: of the model.
            source: of the checkpoint, for the message.

        Raises:
            UserError: the processor cuts other patches than the tower takes, or its numbers cannot
                normalise or resize an image.
        """
        tower, limits = config.vision_config, self.processor.size
        found = {
            "patch_size": (self.patch, tower.patch_size),
            "merge_size": (self.merge, tower.spatial_merge_size),
            "temporal_patch_size": (self.temporal, tower.temporal_patch_size),
        }
        faults = [
            f"{name} is {own}, but {other} in vision_config of config.json"
            for name, (own, other) in found.items()
            if own != other
        ]
        for name, value in (("image_mean", self.mean), ("image_std", self.std)):
            if not value.isfinite().all() or (value is self.std and (value <= 0).any()):
                faults.append(f"{name} is {value.flatten().tolist()}")
        if not 0 < limits["shortest_edge"] <= limits["longest_edge"]:
            faults.append(f"size is {dict(limits)}")
        if faults:
            raise UserError(
                f"preprocessor_config.json of {source} does not fit the model:"
                f" {'; '.join(faults)}; restore the files of the checkpoint"
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image is resized to."""
        limits = self.processor.size
        return smart_resize(
            height,
            width,
            factor=self.patch * self.merge,
            min_pixels=limits["shortest_edge"],
            max_pixels=limits["longest_edge"],
        )

    @property
    def max_tokens(self) -> int:
        """Image tokens of the largest resized image."""
        return int(self.processor.size["longest_edge"]) // (self.patch * self.merge) ** 2

    def num_tokens(self, height: int, width: int) -> int:
        """Image tokens of a resized image of this size.

        Pass the size after resizing: resizing is not idempotent where both limits are close.
        """
        return (height // self.patch // self.merge) * (width // self.patch // self.merge)

    def resize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Resize pixels [B, 3, H, W] in [0, 1] (antialiased bicubic), differentiably."""
        target = self.size(pixels.shape[-2], pixels.shape[-1])
        if target == tuple(pixels.shape[-2:]):
            return pixels
        resized = F.interpolate(
            pixels, size=target, mode="bicubic", antialias=True, align_corners=False
        )
        return resized.clamp(0.0, 1.0)

    def prepare(self, image: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
        """An image [H, W, 3] uint8 as resized pixels [3, h, w] in [0, 1], resized on a device."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None]
        return self.resize(pixels.float().div_(255.0))[0]  # without a second copy

    def patches(self, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut resized images into patches.

        Args:
            images: B tensors [3, h, w] in [0, 1] from ``prepare`` or ``resize``.

        Returns:
            pixel values [N, P] and grids [B, 3] (time, height, width in patches).
        """
        cut: list[torch.Tensor | None] = [None] * len(images)
        grid = torch.empty(len(images), 3, dtype=torch.long)
        sizes = [tuple(image.shape[-2:]) for image in images]
        for size in dict.fromkeys(sizes):
            indices = [i for i, other in enumerate(sizes) if other == size]
            batch = self._cut(torch.stack([images[i] for i in indices]))
            for i, patches in zip(indices, batch, strict=True):
                cut[i] = patches
                grid[i] = torch.tensor([1, size[0] // self.patch, size[1] // self.patch])
        return torch.cat([patches for patches in cut if patches is not None]), grid

    def _cut(self, pixels: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = pixels.shape
        normalised = (pixels - self.mean.to(pixels)) / self.std.to(pixels)
        tall, wide = height // self.patch, width // self.patch
        blocks = normalised.reshape(
            batch,
            channels,
            tall // self.merge,
            self.merge,
            self.patch,
            wide // self.merge,
            self.merge,
            self.patch,
        )
        blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        blocks = blocks.expand(*blocks.shape[:6], self.temporal, *blocks.shape[7:])
        return blocks.reshape(batch, tall * wide, -1)
