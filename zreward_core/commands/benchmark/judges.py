"""Judges: a reward model, and judges that see neither prompt nor image.

Shapes: N images, P pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from zreward_core.commands.benchmark.image_files import ImageFiles
from zreward_core.commands.benchmark.tables import SetImage
from zreward_core.config import UserError
from zreward_core.images import decode
from zreward_core.models.prompts import PromptTooLong
from zreward_core.runtime.progress import track

WINDOW = 64
"""Images in memory at a time."""
OVERALL = "overall"
FIRST = "first image"
SAME = "same score"
LARGER = "larger file"
SHORTER = "shorter prompt"


class Decisions(NamedTuple):
    """A judge on pairs: difference of its two scores, above 0 if the pair's first is better."""

    listed: np.ndarray
    """[P] shown in the order of the annotation file."""
    swapped: np.ndarray
    """[P] shown in the other order."""


def by_score(scores_N: np.ndarray, pairs: pd.DataFrame) -> Decisions:
    """A judge that scores each image by itself: the order of the pair has no effect."""
    listed_P = scores_N[pairs["first"].to_numpy(int)] - scores_N[pairs["second"].to_numpy(int)]
    return Decisions(listed_P, listed_P)


def first_image(number: int) -> Decisions:
    """The judge that always prefers the image that it is shown first."""
    return Decisions(np.ones(number), -np.ones(number))


def same_score(number: int) -> np.ndarray:
    """The judge that gives all images one score."""
    return np.zeros(number)


def larger_file(images: Sequence[SetImage], files: ImageFiles) -> np.ndarray:
    """The judge that scores an image by the size of its file: [N] bytes."""
    return np.array([files.size(image) for image in images], dtype=float)


def shorter_prompt(images: Sequence[SetImage]) -> np.ndarray:
    """The judge that prefers images of short prompts: [N] words, negated."""
    return np.array([-len((image.prompt or "").split()) for image in images], dtype=float)


def model_scores(
    model: str, images: Sequence[SetImage], files: ImageFiles
) -> dict[str, np.ndarray]:
    """Expected scores of a reward model: [N] by dimension, and their mean as ``overall``.

    Raises:
        UserError: the model cannot be loaded, or an image or a prompt cannot be scored; names the
            file and row of the annotation.
    """
    from zreward_core import RewardModel

    reward = RewardModel.from_pretrained(model)
    _check_prompts(reward, images)
    parts = []
    for start in track(range(0, len(images), WINDOW), "scoring", -(-len(images) // WINDOW)):
        window = images[start : start + WINDOW]
        pixels = [_pixels(image, files) for image in window]
        prompts = [image.prompt or "" for image in window]
        parts.append(reward.score(prompts, pixels).mean.double().numpy())
    scores_ND = np.concatenate(parts)
    named = dict(zip(reward.dimensions, scores_ND.T, strict=True))
    return {OVERALL: scores_ND.mean(axis=1), **named}


def _check_prompts(reward: "RewardModel", images: Sequence[SetImage]) -> None:  # type: ignore[name-defined]  # noqa: F821
    seen = set[str]()
    for image in images:
        if image.prompt is None:
            raise UserError(f"{image.place}: no prompt; build the set's file with prompts first")
        if image.prompt in seen:
            continue
        seen.add(image.prompt)
        try:
            reward.backbone.chat.prompt(image.prompt)
        except PromptTooLong as error:
            raise UserError(f"{image.place}: {error}") from None


def _pixels(image: SetImage, files: ImageFiles) -> np.ndarray:
    content = files.content(image)
    try:
        return decode(content, image.name)
    except UserError as error:
        raise UserError(f"{image.place}: {error}") from None
