"""Scores as plain numbers, for the trainers' modules of this package."""

import threading
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from zreward_core.config import UserError

if TYPE_CHECKING:
    import torch

    from zreward_core.models.scorer import RewardModel
    from zreward_core.models.scores import Scores


_ONE_AT_A_TIME = threading.Lock()


class StudentReward:
    """A student that gives a number for an image; threads may share it."""

    def __init__(self, model: "RewardModel", dimension: str | None = None) -> None:
        """
        Args:
            model: the student.
            dimension: whose mean is the reward; None for the mean over the dimensions by the
                rubric's weights.
        """
        if dimension is not None and dimension not in model.dimensions:
            raise UserError(f"unknown dimension {dimension!r}: choose from {model.dimensions}")
        self.model = model
        self.dimension = dimension
        self._lock = threading.Lock()

    def scores(
        self, prompts: Sequence[str], images: Iterable[Any], keep_errors: bool = False
    ) -> "Scores":
        """Scores of B images; with ``keep_errors`` they are NaN where there are none."""
        from zreward_core.models.scores import join_scores

        with self._lock:
            parts = self.model.score_stream(prompts, images, keep_errors=keep_errors)
            return join_scores([self.model.score([], []), *parts])

    def accepts(self, prompt: str) -> bool:
        """Whether a text can be scored as a prompt: it is neither blank nor too long."""
        from zreward_core.models.prompts import PromptRefused

        try:
            self.model.backbone.chat.prompt(prompt)
        except PromptRefused:
            return False
        return True

    def values(self, scores: "Scores") -> list[float]:
        """The reward of each image."""
        if self.dimension is None:
            return scores.overall.tolist()
        return scores.mean[:, scores.dimensions.index(self.dimension)].tolist()

    def means(self, scores: "Scores") -> list[dict[str, float]]:
        """For each image, the mean of each dimension."""
        return [dict(zip(scores.dimensions, row, strict=True)) for row in scores.mean.tolist()]

    def tensor(self, prompts: Sequence[str], pixels: "torch.Tensor") -> "torch.Tensor":
        """The rewards [B] of pixels [B, 3, H, W] in [0, 1], differentiable in them.

        Raises:
            UserError, NotFinite: as for ``RewardModel.reward``.
        """
        means_BD = self.model.reward(prompts, pixels)
        if self.dimension is None:
            return self.model.score([], []).aggregate(means_BD)
        return means_BD[:, self.model.dimensions.index(self.dimension)]

    def __call__(self, prompts: Sequence[str], images: Iterable[Any]) -> list[float]:
        """The reward of each image.

        Raises:
            UserError: an image has no score; names the row. Trainers read a missing number as 0.
        """
        return self.values(self.scores(prompts, images))


def open_reward(
    source: str, dimension: str | None = None, device: Any = "auto", dtype: Any = "auto"
) -> StudentReward:
    """A student by folder, models:/ URI or hub id, which is loaded once in a process."""
    if dimension == "":  # of configurations that cannot hold None
        dimension = None
    with _ONE_AT_A_TIME:  # several threads may ask for the first rewards
        return _opened(str(source), dimension, str(device), str(dtype))


@cache
def _opened(source: str, dimension: str | None, device: str, dtype: str) -> StudentReward:
    return StudentReward(_loaded(source, device, dtype), dimension)


@cache
def _loaded(source: str, device: str, dtype: str) -> "RewardModel":
    from zreward_core import RewardModel

    return RewardModel.from_pretrained(source, device, dtype)
