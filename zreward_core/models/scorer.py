"""The deployed reward model: all dimensions in one forward pass, differentiable in the pixels.

Shapes: B images, D dimensions, S levels, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from zreward_core.config import UserError, is_unicode
from zreward_core.images import check_size, shown
from zreward_core.models.backbone import Backbone, load_backbone
from zreward_core.models.prompts import PromptTooLong
from zreward_core.models.score_decoder import (
    expected_score,
    require_finite_scores,
    score_log_probs,
)
from zreward_core.store import fetch, is_uri


@dataclass
class Scores:
    """Score distributions of B images in D dimensions."""

    dimensions: list[str]
    """Names of the D dimensions."""
    probs: torch.Tensor
    """[B, D, S] distribution over the rubric's levels."""
    mass: torch.Tensor
    """[B, D] total probability of the score tokens."""
    levels: torch.Tensor
    """[S] score of each level."""

    @property
    def mean(self) -> torch.Tensor:
        """[B, D] expected scores (equation 16), in rubric units."""
        return expected_score(self.probs, self.levels)

    @property
    def std(self) -> torch.Tensor:
        """[B, D] standard deviation of the distributions, in rubric units."""
        second = expected_score(self.probs, self.levels**2)
        return (second - self.mean**2).clamp(min=0.0).sqrt()

    @property
    def entropy(self) -> torch.Tensor:
        """[B, D] entropy of the distributions, in nats."""
        return -torch.xlogy(self.probs, self.probs).sum(-1)

    def prefer(self, i: int, j: int) -> torch.Tensor:
        """[D] probability that image i scores above image j; a tie counts one half."""
        joint = self.probs[i][:, :, None] * self.probs[j][:, None, :]
        above = torch.tril(joint, -1).sum((1, 2))
        tie = torch.diagonal(joint, dim1=1, dim2=2).sum(-1)
        return above + 0.5 * tie

    def rows(self) -> list[dict[str, dict[str, object]]]:
        """For each image, dimension name to mean, std, mass and probs as plain numbers."""
        mean, std = self.mean.tolist(), self.std.tolist()
        mass, probs = self.mass.tolist(), self.probs.tolist()
        return [
            {
                name: {
                    "mean": mean[b][d],
                    "std": std[b][d],
                    "mass": mass[b][d],
                    "probs": probs[b][d],
                }
                for d, name in enumerate(self.dimensions)
            }
            for b in range(len(probs))
        ]


class RewardModel:
    """A student that scores in one forward pass, without generating tokens or using a cache."""

    def __init__(self, backbone: Backbone, batch_size: int = 64) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self.dimensions = backbone.rubric.names
        for parameter in backbone.network.parameters():
            parameter.requires_grad_(False)
        backbone.network.eval()

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str | torch.device = "cpu", dtype: str = "float32"
    ) -> "RewardModel":
        """Load a model folder, or a registered version after checking its files.

        Args:
            source: a folder, or ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

        Raises:
            UserError: the folder is missing or not a model of this project; the version does not
                exist, or its files differ from the registered ones.
        """
        backbone = load_backbone(fetch(str(source)) if is_uri(source) else source, dtype)
        backbone.network.to(device)
        return cls(backbone)

    @torch.no_grad()
    def score(
        self,
        prompts: Sequence[str],
        images: Sequence[np.ndarray],
        dimensions: Sequence[str] | None = None,
    ) -> Scores:
        """Score images for their prompts.

        Args:
            prompts: B prompts.
            images: B arrays [H, W, 3] uint8, or PIL images; taken one by one, a batch at a time.
            dimensions: names of the dimensions to return; all are computed.

        Raises:
            UserError: the numbers of prompts and images differ, a prompt is too long or not Unicode
                text, an image cannot be scored, or a dimension is unknown.
            NotFinite: a score is not finite.
        """
        if len(prompts) != len(images):
            raise UserError(f"{len(prompts)} prompts for {len(images)} images: pass one for each")
        for prompt in prompts:
            if not is_unicode(prompt):
                raise UserError(f"the prompt {prompt!a} is not Unicode text; correct it")
        chosen = list(dimensions or self.dimensions)
        unknown = sorted(set(chosen) - set(self.dimensions))
        if unknown:
            raise UserError(f"unknown dimensions {unknown}: choose from {self.dimensions}")
        for row, prompt in enumerate(prompts):
            try:
                self.backbone.chat.prompt(prompt)
            except PromptTooLong as error:
                raise PromptTooLong(f"row {row}: {error}") from None
        num_levels = len(self.backbone.levels)
        log_probs = [torch.zeros(0, len(self.dimensions), num_levels)]
        mass = [torch.zeros(0, len(self.dimensions))]
        for start in range(0, len(prompts), self.batch_size):
            stop = min(start + self.batch_size, len(prompts))
            batch = (_array(images[row]) for row in range(start, stop))
            device = self.backbone.device
            prepared = [self.backbone.pixels.prepare(image, device) for image in batch]
            found = student_scores(self.backbone, prompts[start:stop], prepared)
            log_probs.append(found[0].cpu())
            mass.append(found[1].cpu())
        index = [self.dimensions.index(name) for name in chosen]
        probs, total = torch.cat(log_probs)[:, index].exp(), torch.cat(mass)[:, index]
        names = [f"the image for {prompt[:80]!r}" for prompt in prompts]
        require_finite_scores(self.backbone.source, names, probs, total)
        return Scores(chosen, probs, total, self.backbone.levels)

    def reward(self, prompts: Sequence[str], pixels: torch.Tensor) -> torch.Tensor:
        """Expected scores [B, D] of pixels [B, 3, H, W] in [0, 1]; differentiable in the pixels.

        Equation 16, in rubric units; the reward of equation 20 is an aggregate of it.
        """
        images = list(self.backbone.pixels.resize(pixels))
        log_probs, _ = student_scores(self.backbone, prompts, images)
        return expected_score(log_probs.exp(), self.backbone.levels)


def student_scores(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    network: nn.Module | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of q(s | p, I, d) for every dimension, in one forward pass of one sequence per image.

    Args:
        prompts: B prompts.
        images: B resized images [3, h, w].
        network: the wrapped network where accelerate has prepared one.

    Returns:
        log-probabilities [B, D, S] and mass [B, D].
    """
    chat = backbone.chat
    rows = [backbone.prefix(*pair) + chat.lines for pair in zip(prompts, images, strict=True)]

    def read(logits: torch.Tensor, part: range) -> tuple[torch.Tensor, ...]:
        offsets = [offset - part.start for offset in chat.score_offsets if offset in part]
        return score_log_probs(logits[:, offsets], backbone.label_ids)

    log_probs, mass = backbone.read(rows, images, range(len(rows)), len(chat.lines), read, network)
    return log_probs, mass


def _array(image: object) -> np.ndarray:
    array = shown(image) if isinstance(image, Image.Image) else np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise UserError(f"an image is {array.dtype} {array.shape}: pass uint8 [H, W, 3]")
    check_size(array.shape[1], array.shape[0], "image")
    return array
