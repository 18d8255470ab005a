"""UniRL's reward service: a scorer class, ``zreward_core.integrations.unirl.ZRewardScorer``."""

import torch
from reward_service.scorers.base import BaseScorer, ScoreItem

from zreward_core.config import UserError
from zreward_core.integrations.rewards import open_reward


class ZRewardScorer(BaseScorer):
    """Overall score, which trains, and the mean of each dimension."""

    name = "zreward"
    supports_grad = True

    def __init__(
        self,
        source: str,
        dimension: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """
        Args:
            source: folder, models:/ URI or hub id of a student.
            dimension: whose mean trains; overall if None.
            device, dtype: of the student.
        """
        self.reward = open_reward(source, dimension, device, dtype)
        self.device = self.reward.model.backbone.device
        self.sub_metric_names = ("reward", *self.reward.model.dimensions)

    def score(self, items: list[ScoreItem]) -> list[dict[str, float]]:
        """``reward`` and the dimensions of each item; NaN where an image has no score."""
        for item in items:
            if len(item.history) != 1 or item.history[0][1] is None:
                raise UserError("zreward scores one image for its prompt: send one turn")
        prompts = [item.history[0][0] for item in items]
        scores = self.reward.scores(prompts, [item.history[0][1] for item in items], True)
        pairs = zip(self.reward.values(scores), self.reward.means(scores), strict=True)
        return [{"reward": value, **means} for value, means in pairs]

    def score_tensors(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Rewards [B] of images [B, 3, H, W] in [0, 1], differentiable in them.

        An image without a score fails the batch: a gradient would be that of the others alone.
        """
        return self.reward.tensor(prompts, images)
