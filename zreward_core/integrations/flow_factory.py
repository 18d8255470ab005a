"""Flow-Factory: a reward by its class path, ``zreward_core.integrations.flow_factory.ZReward``."""

from typing import Any

import torch
from flow_factory.rewards.abc import PointwiseRewardModel, RewardModelOutput

from zreward_core.config import UserError
from zreward_core.integrations.rewards import open_reward


class ZReward(PointwiseRewardModel):
    """Overall score, or the mean of a dimension, of each image for its prompt.

    Read from the reward's configuration beside Flow-Factory's own keys: ``source`` (folder,
    models:/ URI or hub id of a student) and ``dimension`` (overall if it is missing).
    """

    required_fields = ("prompt", "image")
    use_tensor_inputs = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        super().__init__(config, accelerator)
        source = getattr(config, "source", None)
        if not source:
            raise UserError(f"rewards: {config.name}: source is missing: name a student's folder")
        dimension = getattr(config, "dimension", None)
        self.reward = open_reward(source, dimension, self.device, self.dtype)
        self.model = self.reward.model.backbone.network

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        image: list[Any] | None = None,
        video: list[Any] | None = None,
        audio: list[Any] | None = None,
        condition_images: list[Any] | None = None,
        condition_videos: list[Any] | None = None,
        **kwargs: Any,
    ) -> RewardModelOutput:
        """Rewards [B]; the means of the dimensions are in ``extra_info``."""
        if image is None or video is not None:
            raise UserError("zreward scores images: train a model that generates images")
        if condition_images is not None or condition_videos is not None:
            raise UserError("zreward scores an image for its prompt alone, not for other images")
        scores = self.reward.scores(prompt, image)
        means = dict(zip(scores.dimensions, scores.mean.T, strict=True))
        rewards = torch.tensor(self.reward.values(scores), device=self.device)
        return RewardModelOutput(rewards=rewards, extra_info=means)
