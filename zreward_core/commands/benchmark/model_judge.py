"""A reward model as judge.

Shapes: N images, D dimensions.
"""

from collections.abc import Sequence

import numpy as np

from zreward_core.commands.benchmark.image_files import ImageFiles
from zreward_core.commands.benchmark.tables import SetImage
from zreward_core.config import UserError
from zreward_core.models.prompts import PromptRefused
from zreward_core.models.scorer import RewardModel
from zreward_core.models.scores import join_scores
from zreward_core.runtime.progress import track

WINDOW = 64
"""Images in memory at a time."""
OVERALL = "overall"


def model_scores(
    model: str, images: Sequence[SetImage], files: ImageFiles
) -> dict[str, np.ndarray]:
    """Expected scores of a reward model: [N] by dimension, and ``overall`` by its rubric's weights.

    Raises:
        UserError: the model cannot be loaded, or an image or a prompt cannot be scored; names the
            file and row of the annotation.
    """
    reward = RewardModel.from_pretrained(model)
    _check_prompts(reward, images)
    parts = []
    for start in track(range(0, len(images), WINDOW), "scoring", -(-len(images) // WINDOW)):
        window = images[start : start + WINDOW]
        pixels = [files.pixels(image) for image in window]
        prompts = [image.prompt or "" for image in window]
        parts.append(reward.score(prompts, pixels))
    scores = join_scores(parts)
    named = dict(zip(scores.dimensions, scores.mean.double().numpy().T, strict=True))
    return {OVERALL: scores.overall.double().numpy(), **named}


def _check_prompts(reward: RewardModel, images: Sequence[SetImage]) -> None:
    seen = set[str]()
    for image in images:
        if image.prompt is None:
            raise UserError(f"{image.place}: no prompt; build the set's file with prompts first")
        if image.prompt in seen:
            continue
        seen.add(image.prompt)
        try:
            reward.backbone.chat.prompt(image.prompt)
        except PromptRefused as error:
            raise UserError(f"{image.place}: {error}") from None
