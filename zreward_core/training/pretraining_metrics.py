"""Teacher-forced accuracy of a pretrained tiny base on held-out images.

Shapes: N sequences, K last positions, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np
import torch

from zreward_core.models.backbone import Backbone
from zreward_core.training.pretraining import (
    IGNORED,
    Example,
    TrainingSequence,
    answer,
    describe,
    generic_label,
    score_at_once,
)
from zreward_core.world.prompts import COLOURS, SHAPES
from zreward_core.world.texts import CARE, is_verdict, trace_text

GLANCE, THOROUGH = CARE[0], CARE[2]


@torch.no_grad()
def measure(
    backbone: Backbone, examples: list[Example], aspects: list[str], batch_size: int = 64
) -> dict[str, float]:
    """Word accuracy and score error of a base, teacher-forced.

    Returns:
        ``colours_``, ``shapes_`` and ``verdicts_`` of ``description`` (without the prompt) and
        ``thorough`` traces: share of these words that are predicted correctly; ``verdict_WORD``:
        the same for each verdict of thorough traces; ``score_error_``: mean absolute error of the
        generic score (0 to 1) after a ``thorough`` trace, after a ``glance``, and ``at_once``.
    """
    tokens = backbone.tokenizer.convert_ids_to_tokens(list(range(len(backbone.tokenizer))))
    words = [token.removeprefix("Ġ") for token in tokens]  # byte-level mark of a leading space
    found: dict[str, list[float]] = {}
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        images = [example.image for example in batch]
        for task, sequences in _tasks(backbone, batch, aspects):
            for name, value in _results(backbone, task, sequences, images, words):
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def _tasks(
    backbone: Backbone, batch: list[Example], aspects: list[str]
) -> Iterator[tuple[str, list[TrainingSequence]]]:
    """Name of a task, and a sequence for each example."""
    chat = backbone.chat
    yield "description", [describe(backbone, example) for example in batch]
    exact = np.zeros(len(aspects))
    each = [[aspect] for aspect in aspects]
    yield "at_once", [score_at_once(backbone, example, each, exact) for example in batch]
    rng = np.random.default_rng(0)
    for care in (GLANCE, THOROUGH):
        for question, aspect in zip(chat.questions, aspects, strict=True):
            sequences = []
            for example in batch:
                trace = chat.trace(trace_text(aspect, example.inspection, care, rng))
                label = generic_label(backbone, [aspect], example.inspection)
                tokens, targets = answer(question, trace, chat.closing[1:], label)
                prefix = backbone.prefix(example.prompt, example.image)
                sequences.append((prefix + tokens, targets))
            yield care, sequences


def _results(
    backbone: Backbone,
    task: str,
    sequences: list[TrainingSequence],
    images: list[torch.Tensor],
    words: list[str],
) -> Iterator[tuple[str, float]]:
    """Name and value of a metric at each target."""
    rows = [tokens for tokens, _ in sequences]
    num_last = max(len(targets) for _, targets in sequences)
    logits_NKV = backbone.logits(rows, images, range(len(rows)), num_last)
    fractions = torch.linspace(0, 1, len(backbone.levels))
    label_ids = backbone.chat.label_ids
    for n, (_, targets) in enumerate(sequences):
        for k, target in enumerate(targets, num_last - len(targets)):
            if target in label_ids:
                probs = torch.softmax(logits_NKV[n, k, backbone.label_ids], -1)
                truth = fractions[label_ids.index(target)]
                yield f"score_error_{task}", abs(float(probs @ fractions - truth))
            elif target != IGNORED and task != GLANCE and (kind := _word_kind(words[target])):
                correct = float(logits_NKV[n, k].argmax() == target)
                yield f"{kind}_{task}", correct
                if kind == "verdicts" and task == THOROUGH:
                    yield f"verdict_{words[target]}", correct


def _word_kind(word: str) -> str:
    if word in COLOURS:
        return "colours"
    if word in SHAPES:
        return "shapes"
    return "verdicts" if is_verdict(word) else ""
