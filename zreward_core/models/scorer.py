"""The deployed reward model: all dimensions in one forward pass, differentiable in the pixels.

Shapes: B images, D dimensions, S levels, H height, W width.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch.utils.checkpoint import checkpoint

from zreward_core.arguments import whole_number
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import Role
from zreward_core.models.inputs import check_pixels
from zreward_core.models.judge import Judge
from zreward_core.models.opening import open_model
from zreward_core.models.score_decoder import Logits, expected_score, score_log_probs
from zreward_core.models.scores import Scores
from zreward_core.models.torch_state import on_cpu_by_default

__all__ = ["RewardModel", "Scores", "student_scores"]
LENGTH_MULTIPLE = 8
"""A sequence is scored at the next multiple of this length, whatever else is in its batch: padding
changes the rounding, and so do products of matrices with an odd number of rows."""
BATCH_SIZE = 64
PASS_PIXELS = 8 * 1024**2
"""Resized pixels of a forward pass: 32 images of 512 x 512, 8 of 1024 x 1024 (8,192 tokens of a
Qwen3-VL)."""


class RewardModel(Judge):
    """A student that scores in one forward pass, without generating tokens or using a cache.

    An image and a prompt have the same score whatever they are scored with: sequences of the same
    padded length are scored together. On a CPU scores are equal to the last bit where the images
    of a batch have the same size, otherwise up to rounding (1e-5 in float32).
    """

    role: ClassVar[Role] = "student"

    def __init__(self, backbone: Backbone, batch_size: int = BATCH_SIZE) -> None:
        super().__init__(backbone, batch_size)
        self._padded = copy.copy(backbone)
        self._padded.length_multiple = LENGTH_MULTIPLE

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        revision: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> "RewardModel":
        """Load a student; its weights are frozen.

        Args:
            source: a folder, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` (its files are
                compared with the registered hashes), or the id of a repository of the Hugging Face
                hub.
            device: "auto" for the accelerator of the machine, or the CPU where it has none.
            dtype: "auto" for the one in which the weights are stored; or a torch dtype, or its
                name.
            revision: branch, tag or commit of a hub repository.
            batch_size: images in a forward pass; fewer where their resized pixels exceed
                ``PASS_PIXELS``.

        Raises:
            UserError: the source, device, dtype or revision does not exist; the model is a teacher,
                or not of this project; or its files differ from the registered ones.
        """
        batch_size = whole_number("batch_size", batch_size)  # before the weights are loaded
        return cls(open_model(source, cls.role, device, dtype, revision), batch_size)

    def _distributions(
        self, prompts: list[str], images: list[torch.Tensor], chosen: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        backbone = self._padded
        shape = len(prompts), len(self.dimensions)
        mass = torch.zeros(shape, dtype=torch.float32)
        probs = mass.new_zeros(*shape, len(backbone.levels))
        groups = defaultdict(list)
        for row, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
            groups[self.padded_length(len(backbone.prefix(prompt, image)))].append(row)
        for rows in groups.values():
            size = images_of_pass(max(images[row][0].numel() for row in rows), self.batch_size)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                log_probs, mass_part = student_scores(
                    backbone, [prompts[row] for row in part], [images[row] for row in part]
                )
                probs[part], mass[part] = log_probs.cpu().exp(), mass_part.cpu()
        return probs[:, chosen], mass[:, chosen]

    def padded_length(self, num_tokens: int) -> int:
        """Length to which a sequence with ``num_tokens`` of prompt and image is padded."""
        length = num_tokens + len(self.backbone.chat.lines)
        return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    @on_cpu_by_default()
    def reward(
        self,
        prompts: Sequence[str],
        pixels: torch.Tensor,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        micro_batch: int | None = None,
    ) -> torch.Tensor:
        """Expected scores [B, D] of pixels [B, 3, H, W]; differentiable in the pixels.

        Equation 16, in rubric units; the reward of equation 20 is an aggregate of it.

        Args:
            prompts: B prompts.
            pixels: floats in ``value_range``.
            value_range: lowest and highest value of a pixel, (-1, 1) for the output of a VAE.
            micro_batch: images in a forward pass; the activations of only one pass are in memory
                at a time, and are computed again in the backward pass. All images if None.

        Raises:
            UserError: the shape, number, dtype or range of the pixels is wrong, or a prompt is
                empty, too long or not Unicode text.
            NotFinite: a pixel is NaN or infinite.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise UserError("the prompts must be a list of texts, one for each image")
        if micro_batch is not None:
            micro_batch = whole_number("micro_batch", micro_batch)
        pixels = check_pixels(prompts, pixels, value_range)
        for row, prompt in enumerate(prompts):
            self.backbone.chat.prompt_of_row(row, prompt)
        if not len(pixels):
            return pixels.mean((1, 2, 3))[:, None].expand(-1, len(self.dimensions))
        if micro_batch is None or micro_batch >= len(prompts):
            return self._rewards(prompts, pixels)
        return torch.cat(
            [
                checkpoint(
                    self._rewards,
                    prompts[start : start + micro_batch],
                    pixels[start : start + micro_batch],
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                for start in range(0, len(prompts), micro_batch)
            ]
        )

    def _rewards(self, prompts: Sequence[str], pixels: torch.Tensor) -> torch.Tensor:
        images = list(self.backbone.pixels.resize(pixels))
        log_probs, _ = student_scores(self.backbone, prompts, images)
        return expected_score(log_probs.exp(), self.backbone.levels)


def images_of_pass(num_pixels: int, batch_size: int) -> int:
    """Images of ``num_pixels`` each in a forward pass, at most ``batch_size``."""
    return min(batch_size, max(1, PASS_PIXELS // num_pixels))


def student_scores(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of q(s | p, I, d) for every dimension, in one forward pass of one sequence per image.

    Args:
        prompts: B prompts.
        images: B resized images [3, h, w].

    Returns:
        log-probabilities [B, D, S] and mass [B, D].
    """
    chat = backbone.chat
    rows = [backbone.prefix(*pair) + chat.lines for pair in zip(prompts, images, strict=True)]

    def read(logits: Logits, part: range) -> tuple[torch.Tensor, ...]:
        offsets = [offset - part.start for offset in chat.score_offsets if offset in part]
        return score_log_probs(logits.at((slice(None), offsets)), backbone.label_ids)

    log_probs, mass = backbone.read(rows, images, range(len(rows)), len(chat.lines), read)
    return log_probs, mass
