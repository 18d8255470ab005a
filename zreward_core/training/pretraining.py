"""Pretraining sequences of a tiny base: descriptions, inspections and generic scores of images.

A sequence is a list of tokens, and the targets of the last of them: the token that follows, or
``IGNORED`` where no loss is taken.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator

from zreward_core.config import Count, Positive, Settings, Share, Weight
from zreward_core.models.backbone import Backbone
from zreward_core.world.prompts import COLOURS, PLACES, SHAPES, all_prompts
from zreward_core.world.texts import (
    CARE,
    GLANCE,
    KIND_WORDS,
    VERDICTS,
    description,
    generic_score,
    trace_text,
)

IGNORED = -100
TrainingSequence = tuple[list[int], list[int]]
"""Tokens, and the targets of the last of them."""


class Curriculum(Settings):
    """Which sequences a tiny base is pretrained on, and when."""

    look_share: Share = 0.4
    """Share of the steps, at the start, in which images are only described."""
    habit_share: Share = 0.15
    """Share of the steps, at the end, in which the care of inspections varies."""
    turns: Count = 2
    """Dimensions of an image that are inspected and scored in one sequence."""
    weights: dict[str, Positive] = {"alignment": 3.0}
    """Sampling weight of an aspect in inspections; 1 for aspects not listed."""
    score_noise: Weight = 0.1
    """Standard deviation of the noise in the generic scores (0 to 1)."""
    describe_share: Share = 0.2
    """Share of sequences that are descriptions, after the start."""
    verdict_share: Share = 0.0
    """Share of sequences that give the verdict on each place at once, without describing it."""
    at_once_share: Share = 0.1
    """Share of sequences that score all dimensions at once, by the overall impression."""
    care: dict[str, Share] = {"glance": 0.4, "partial": 0.35, "thorough": 0.25}
    """Shares of the degrees of care while it varies."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if set(self.care) - set(CARE) or not math.isclose(sum(self.care.values()), 1.0):
            raise ValueError(f"care must give shares that add up to 1 to some of {list(CARE)}")
        if self.describe_share + self.at_once_share > 1:
            raise ValueError("describe_share and at_once_share must add up to at most 1")
        return self


@dataclass
class Example:
    """One pretraining image with its prompt and inspection."""

    prompt: str
    image: torch.Tensor
    """Resized pixels [3, h, w]."""
    inspection: dict[str, Any]


def vocabulary() -> list[str]:
    """All words used in the world, so that the vocabulary does not depend on the scenes."""
    places = (place.replace(" ", "") for place in PLACES)
    words = [*VERDICTS, *KIND_WORDS, *places, *COLOURS, *SHAPES, "nothing"]
    return [GLANCE, *words, *all_prompts()]


def sample_sequence(
    backbone: Backbone,
    example: Example,
    curriculum: Curriculum,
    aspects: list[str],
    progress: float,
    rng: np.random.Generator,
) -> TrainingSequence:
    """A random pretraining sequence about an image.

    Args:
        aspects: aspect of the world for each rubric dimension.
        progress: share of the training steps already done.
    """
    kind = rng.random()
    if progress < curriculum.look_share or kind < curriculum.describe_share:
        return describe(backbone, example)
    if kind < curriculum.describe_share + curriculum.at_once_share:
        noises = rng.normal(0.0, curriculum.score_noise, len(aspects))
        return score_at_once(backbone, example, [aspects] * len(aspects), noises)
    if rng.random() < curriculum.verdict_share:
        return give_verdicts(backbone, example, rng)
    chat = backbone.chat
    tokens = backbone.prefix(example.prompt, example.image)
    targets: list[int] = []
    weights = np.array([curriculum.weights.get(aspect, 1.0) for aspect in aspects])
    turns = min(curriculum.turns, len(aspects))
    order = rng.choice(len(aspects), size=turns, replace=False, p=weights / weights.sum())
    for turn, dimension in enumerate(order.tolist()):
        care = "thorough"
        if progress >= 1 - curriculum.habit_share:
            care = str(rng.choice(list(curriculum.care), p=list(curriculum.care.values())))
        trace = chat.trace(trace_text(aspects[dimension], example.inspection, care, rng))
        # Without an inspection every aspect gets the overall impression, the mean over all
        # aspects (the halo effect; Thorndike, 1920).
        scored = aspects if care == CARE[0] else [aspects[dimension]]
        noise = rng.normal(0.0, curriculum.score_noise)
        label = generic_label(backbone, scored, example.inspection, noise)
        asked, wanted = answer(chat.questions[dimension], trace, chat.closing[1:], label)
        if turn:
            tokens, targets = tokens + chat.next_turn, targets + [IGNORED] * len(chat.next_turn)
        tokens, targets = tokens + asked, targets + wanted
    return tokens, targets


def describe(backbone: Backbone, example: Example) -> TrainingSequence:
    """A description of an image without its prompt, from which it could be guessed."""
    chat = backbone.chat
    num_tokens = backbone.pixels.num_tokens(example.image.shape[-2], example.image.shape[-1])
    trace = chat.trace(description(example.inspection))
    tokens, targets = answer(chat.plain_question, trace, [], None)
    return chat.image(num_tokens) + tokens, targets


def give_verdicts(
    backbone: Backbone, example: Example, rng: np.random.Generator
) -> TrainingSequence:
    """Whether each place is as the prompt says, each answered with one token, in random order."""
    chat, cells = backbone.chat, example.inspection["alignment"]
    tokens = backbone.prefix(example.prompt, example.image) + chat.ask("")
    targets: list[int] = []
    for index in rng.permutation(len(cells)).tolist():
        place, verdict = (
            chat.trace(f" {cells[index][key].replace(' ', '')}")[:-1]
            for key in ("place", "verdict")
        )
        tokens = tokens + place + verdict
        targets += [IGNORED] * (len(place) - 1) + verdict + [IGNORED]
    return tokens, targets


def score_at_once(
    backbone: Backbone, example: Example, scored: list[list[str]], noises: np.ndarray
) -> TrainingSequence:
    """The student's sequence, with a generic label at the score position of each line.

    Args:
        scored: for each dimension the aspects that its label is the mean of.
        noises: for each dimension the noise of its score.
    """
    chat = backbone.chat
    targets = [IGNORED] * len(chat.lines)
    for offset, aspects, noise in zip(chat.score_offsets, scored, noises, strict=True):
        targets[offset] = generic_label(backbone, aspects, example.inspection, noise)
    return backbone.prefix(example.prompt, example.image) + chat.lines, targets


def generic_label(
    backbone: Backbone, aspects: list[str], inspection: dict[str, Any], noise: float = 0.0
) -> int:
    """Label token nearest to the mean generic score of some aspects plus noise."""
    score = np.mean([generic_score(aspect, inspection[aspect]) for aspect in aspects]) + noise
    bounded = min(1.0, max(0.0, float(score)))
    return backbone.chat.label_ids[round(bounded * (len(backbone.levels) - 1))]


def answer(
    question: list[int], trace: list[int], closing: list[int], label: int | None
) -> TrainingSequence:
    """A question with its trace, the rest of the closing and its label, if there is one."""
    tokens = question + trace + closing
    targets = [IGNORED] * (len(question) - 1) + trace + [IGNORED] * len(closing)
    if label is None:
        return tokens, [*targets, IGNORED]
    return [*tokens, label], [*targets, label, IGNORED]


def sequence_loss(
    backbone: Backbone, sequences: list[TrainingSequence], images: list[torch.Tensor]
) -> torch.Tensor:
    """Cross-entropy summed over the targets; sequence n contains image n."""
    num_last = max(len(targets) for _, targets in sequences)
    rows = [tokens for tokens, _ in sequences]
    logits = backbone.logits(rows, images, range(len(rows)), num_last)
    padded = [[IGNORED] * (num_last - len(targets)) + targets for _, targets in sequences]
    target = torch.tensor(padded).flatten().to(logits.device)
    return F.cross_entropy(logits.flatten(0, 1), target, ignore_index=IGNORED, reduction="sum")
