"""base_vlm: world -> the teacher's and the student's base.

With hub ids the bases are pointers; else tiny Qwen3.5 models are pretrained on the world: to
caption, to inspect (first with care, then with the uneven habits of people), to score by a
generic notion of quality that is not the rubric.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import model_validator

from zreward_core.config import Settings, StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import CARD, Backbone, card
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import fast_precision
from zreward_core.runtime.distributed import add_gradients, add_up, own_part
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track, write_history
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import read_table, write_json
from zreward_core.training.optimizers import make_optimizers, set_rates, trapezoid
from zreward_core.world.inspection import INSPECTIONS
from zreward_core.world.prompts import COLOURS, PLACES, SHAPES, all_prompts
from zreward_core.world.texts import (
    CARE,
    GLANCE,
    KIND_WORDS,
    VERDICTS,
    description,
    generic_score,
    is_verdict,
    trace_text,
)

logger = logging.getLogger(__name__)
OUTPUT = Path("data/base_vlm")
WORLD = Path("data/world")
ROLES = ("teacher", "student")
IGNORED = -100


class Pretraining(Settings):
    """Pretraining of a tiny base on the world."""

    steps: int
    """Optimizer steps."""
    look_share: float = 0.4
    """Share of the steps, at the start, in which images are only described."""
    habit_share: float = 0.15
    """Share of the steps, at the end, in which inspections are of uneven care."""
    batch_size: int = 64
    """Sequences a step."""
    micro_batches: int = 2
    """Forward passes a step, by length of the sequences: saves padding."""
    learning_rate: float = 3e-3
    """Peak learning rate of Muon."""
    turns: int = 2
    """Dimensions of an image that are inspected and scored in one sequence."""
    weights: dict[str, float] = {"alignment": 3.0}
    """How often an aspect is inspected beside the others, which count 1."""
    score_noise: float = 0.1
    """Standard deviation of the generic scores (0 to 1) that people wrote."""
    describe_share: float = 0.2
    """Share of sequences that describe, after the start."""
    at_once_share: float = 0.1
    """Share of sequences that give every dimension the impression of the whole at once."""
    care: dict[str, float] = {"glance": 0.4, "partial": 0.35, "thorough": 0.25}
    """How often people look how closely, in the habit phase."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""


class Base(Settings):
    """One base: a hub checkpoint, or a tiny model to be pretrained."""

    hub_id: str | None = None
    """Hub id of the checkpoint; nothing is copied, later stages load it by this name."""
    revision: str | None = None
    """Commit of the hub checkpoint; required with hub_id so that a run can be repeated."""
    tiny: TinySizes | None = None
    """Sizes of a tiny model."""
    pretraining: Pretraining | None = None
    """How the tiny model is pretrained."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Base":
        if (self.hub_id is None) == (self.tiny is None):
            raise ValueError("give either hub_id (with revision) or tiny (with pretraining)")
        if self.hub_id is not None and self.revision is None:
            raise ValueError("hub_id needs a revision, so that the run can be repeated")
        if self.tiny is not None and self.pretraining is None:
            raise ValueError("tiny needs pretraining")
        return self


class Config(StageConfig):
    """The two bases and the texts around image and prompt."""

    teacher: Base
    """Base of the reasoning teacher."""
    student: Base
    """Base of the one-token student."""
    prompt: PromptSettings
    """Texts around image and prompt, the same for both and for all later stages."""
    aspects: dict[str, str] = {}
    """Rubric dimension to aspect of the world, where the names differ."""


@dataclass
class Example:
    """One pretraining image with everything that is known about it."""

    prompt: str
    image: torch.Tensor
    inspection: dict[str, Any]


def run(config: Config) -> None:
    """Write teacher/, student/ and metrics.json.

    Raises:
        UserError: a tiny base is asked for and the world is empty.
    """
    rubric = load_rubric()
    made: dict[str, tuple[Backbone, list[dict[str, float]]]] = {}
    metrics, checkpoints = {}, []
    for role in ROLES:
        base: Base = getattr(config, role)
        if base.hub_id is not None:
            continue
        assert base.tiny is not None and base.pretraining is not None
        inputs = [WORLD / "inspections.parquet", WORLD / "images"]
        checkpoint = Checkpoint(f"base_vlm_{role}", config, inputs)
        checkpoints.append(checkpoint)
        table = read_table(WORLD / "inspections.parquet", INSPECTIONS)
        if table.empty:
            raise UserError("params.yaml: world.size is 0, so base_vlm needs hub_id, not tiny")
        seed = config.seed * 10 + ROLES.index(role)
        backbone = build_backbone(base.tiny, [GLANCE, *_all_words()], rubric, config.prompt, seed)
        logger.info("%s: %.2f M parameters", role, backbone.num_parameters / 1e6)
        learn, held_out = load_examples(backbone, table)
        aspects = [config.aspects.get(name, name) for name in rubric.names]
        history = pretrain(backbone, base.pretraining, learn, aspects, seed, checkpoint, role)
        metrics[role] = measure(backbone, held_out[:320], aspects)
        metrics[role]["num_parameters"] = backbone.num_parameters
        made[role] = backbone, history
    if is_main():
        write_bases(config, rubric, made, metrics)
    for checkpoint in checkpoints:
        checkpoint.clear()


def write_bases(
    config: Config,
    rubric: Rubric,
    made: dict[str, tuple[Backbone, list[dict[str, float]]]],
    metrics: dict[str, dict[str, float]],
) -> None:
    """Write what was pretrained with its history, and pointers for what was not."""
    with whole_output(OUTPUT, config) as folder:
        for role in ROLES:
            base: Base = getattr(config, role)
            if role in made:
                backbone, history = made[role]
                backbone.save(folder / role, {"stage": "base_vlm", "params": base.model_dump()})
                write_history(history, folder / role / "history.jsonl")
            else:
                pointer = card(rubric, config.prompt, None, {})
                pointer |= {"hub_id": base.hub_id, "revision": base.revision}
                (folder / role).mkdir()
                write_json(pointer, folder / role / CARD)
        write_json(metrics, folder / "metrics.json")


def load_examples(backbone: Backbone, table: pd.DataFrame) -> tuple[list[Example], list[Example]]:
    """Pretraining images as (those to learn from, those held out)."""
    images = ImageStore(WORLD / "images")
    groups: tuple[list[Example], list[Example]] = [], []
    for row in table.itertuples():
        image = backbone.pixels.prepare(images.pixels(row.image_id))
        inspection = json.loads(row.inspection)
        example = Example(row.prompt, image, inspection)
        groups[int(row.held_out)].append(example)
    return groups


def pretrain(
    backbone: Backbone,
    settings: Pretraining,
    examples: list[Example],
    aspects: list[str],
    seed: int,
    checkpoint: Checkpoint,
    role: str,
) -> list[dict[str, float]]:
    """Next-token prediction on captions, inspections and generic scores."""
    backbone.train_mode(lora=None)
    optimizers = make_optimizers(backbone.network, settings.learning_rate)
    history: list[dict[str, float]] = []
    start = 0
    if state := checkpoint.load("state"):
        backbone.network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        history, start = state["history"], state["step"]
    for step in track(range(start, settings.steps), f"{role} base", settings.steps, start):
        rng = np.random.default_rng([seed, step])
        progress = step / settings.steps
        chosen = [examples[i] for i in rng.integers(len(examples), size=settings.batch_size)]
        sequences = [make_sequence(backbone, e, settings, aspects, progress, rng) for e in chosen]
        images = [example.image for example in chosen]
        loss = backward_by_length(backbone, sequences, images, settings.micro_batches)
        add_gradients(backbone.trainable())
        torch.nn.utils.clip_grad_norm_(backbone.trainable(), 1.0)
        set_rates(optimizers, settings.learning_rate * trapezoid(step, settings.steps))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 10 == 0:
            history.append({"step": step} | add_up({"loss": loss}))
        if (step + 1) % settings.checkpoint_every == 0:
            state = {
                "step": step + 1,
                "network": backbone.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()
    return history


def make_sequence(
    backbone: Backbone,
    example: Example,
    settings: Pretraining,
    aspects: list[str],
    progress: float,
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Tokens to read, and the targets of the last of them (IGNORED where there is none).

    Args:
        progress: share of the steps that are done.
    """
    chat = backbone.chat
    kind = rng.random()
    if progress < settings.look_share or kind < settings.describe_share:
        return describe(backbone, example)
    prefix = backbone.prefix(example.prompt, example.image)
    if kind < settings.describe_share + settings.at_once_share:
        noises = rng.normal(0.0, settings.score_noise, len(aspects))
        lines, wanted = _at_once(backbone, example, [aspects] * len(aspects), noises)
        return prefix + lines, wanted
    tokens: list[int] = list(prefix)
    targets: list[int] = []
    weights = np.array([settings.weights.get(aspect, 1.0) for aspect in aspects])
    turns = min(settings.turns, len(aspects))
    order = rng.choice(len(aspects), size=turns, replace=False, p=weights / weights.sum())
    for turn, dimension in enumerate(order.tolist()):
        care = "thorough"
        if progress >= 1 - settings.habit_share:
            care = str(rng.choice(list(settings.care), p=list(settings.care.values())))
        trace = chat.trace(trace_text(aspects[dimension], example.inspection, care, rng))
        judged = aspects if care == CARE[0] else [aspects[dimension]]
        noise = rng.normal(0.0, settings.score_noise)
        label = generic_label(backbone, judged, example.inspection, noise)
        asked, wanted = _asked(chat.questions[dimension], trace, chat.closing[1:], label)
        if turn:
            tokens, targets = tokens + chat.next_turn, targets + [IGNORED] * len(chat.next_turn)
        tokens, targets = tokens + asked, targets + wanted
    return tokens, targets


def describe(backbone: Backbone, example: Example) -> tuple[list[int], list[int]]:
    """An image without its prompt, so that nothing can be guessed from it, and what it shows."""
    chat = backbone.chat
    num_tokens = backbone.pixels.num_tokens(example.image.shape[-2], example.image.shape[-1])
    asked, wanted = _asked(
        chat.plain_question, chat.trace(description(example.inspection)), [], None
    )
    return chat.image(num_tokens) + asked, wanted


def generic_label(
    backbone: Backbone, aspects: list[str], inspection: dict[str, Any], noise: float = 0.0
) -> int:
    """Token of the label that the generic notion of quality gives, plus somebody's noise.

    Args:
        aspects: what the score is of; who doesn't inspect gives every aspect the impression of
            the whole, which is the mean over all aspects (the halo effect; Thorndike, 1920).
    """
    score = np.mean([generic_score(aspect, inspection[aspect]) for aspect in aspects]) + noise
    bounded = min(1.0, max(0.0, float(score)))
    return backbone.chat.label_ids[round(bounded * (len(backbone.levels) - 1))]


def _asked(
    question: list[int], trace: list[int], closing: list[int], label: int | None
) -> tuple[list[int], list[int]]:
    """A question with its answer, and the target after each of these tokens."""
    tokens = question + trace + closing
    targets = [IGNORED] * (len(question) - 1) + trace + [IGNORED] * len(closing)
    if label is None:
        return tokens, [*targets, IGNORED]
    return [*tokens, label], [*targets, label, IGNORED]


def backward_by_length(
    backbone: Backbone,
    sequences: list[tuple[list[int], list[int]]],
    images: list[torch.Tensor],
    num_parts: int,
) -> float:
    """Gradients of the mean loss over all targets; sequences of like length go together.

    Each process takes its part of the sequences; the gradients and losses of all are to be added.
    """
    order = sorted(own_part(len(sequences)), key=lambda i: len(sequences[i][0]))
    num_targets = sum(target != IGNORED for _, targets in sequences for target in targets)
    total = 0.0
    for part in np.array_split(np.array(order, dtype=int), num_parts):
        if not len(part):
            continue
        with fast_precision():
            loss = sequence_loss(backbone, [sequences[i] for i in part], [images[i] for i in part])
        (loss / num_targets).backward()
        total += loss.item() / num_targets
    return total


def sequence_loss(
    backbone: Backbone, sequences: list[tuple[list[int], list[int]]], images: list[torch.Tensor]
) -> torch.Tensor:
    """Cross-entropy summed over the targets."""
    num_last = max(len(targets) for _, targets in sequences)
    rows = [tokens for tokens, _ in sequences]
    logits = backbone.logits(rows, images, range(len(rows)), num_last)
    padded = [[IGNORED] * (num_last - len(targets)) + targets for _, targets in sequences]
    target = torch.tensor(padded).flatten().to(logits.device)
    return F.cross_entropy(logits.flatten(0, 1), target, ignore_index=IGNORED, reduction="sum")


@torch.no_grad()
def measure(
    backbone: Backbone, examples: list[Example], aspects: list[str], batch_size: int = 64
) -> dict[str, float]:
    """What a base can do on held-out images, teacher-forced.

    Returns:
        share of colours, shapes and verdict words predicted right in descriptions (without the
        prompt) and in thorough traces, there also for each verdict word by itself, and the mean
        absolute error of the generic score (0 to 1) after a thorough trace, after a glance, and at
        once.
    """
    tokens = backbone.tokenizer.convert_ids_to_tokens(list(range(len(backbone.tokenizer))))
    words = [token.removeprefix("Ġ") for token in tokens]  # a byte-level mark of a leading space
    found: dict[str, list[float]] = {}
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        for name, rows in _exams(backbone, batch, aspects):
            _mark(backbone, name, rows, [example.image for example in batch], words, found)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def _exams(
    backbone: Backbone, batch: list[Example], aspects: list[str]
) -> Iterator[tuple[str, list[tuple[list[int], list[int]]]]]:
    """Name of an exam, and for each example the tokens to read with their targets."""
    chat = backbone.chat
    prefixes = [backbone.prefix(example.prompt, example.image) for example in batch]
    yield "description", [describe(backbone, example) for example in batch]
    exact = np.zeros(len(aspects))
    rows = [_at_once(backbone, example, [[a] for a in aspects], exact) for example in batch]
    yield (
        "at_once",
        [(p + lines, wanted) for p, (lines, wanted) in zip(prefixes, rows, strict=True)],
    )
    rng = np.random.default_rng(0)
    for care in (CARE[0], CARE[2]):
        for question, aspect in zip(chat.questions, aspects, strict=True):
            answers = []
            for example, prefix in zip(batch, prefixes, strict=True):
                trace = chat.trace(trace_text(aspect, example.inspection, care, rng))
                label = generic_label(backbone, [aspect], example.inspection)
                asked, wanted = _asked(question, trace, chat.closing[1:], label)
                answers.append((prefix + asked, wanted))
            yield care, answers


def _mark(
    backbone: Backbone,
    name: str,
    rows: list[tuple[list[int], list[int]]],
    images: list[torch.Tensor],
    words: list[str],
    found: dict[str, list[float]],
) -> None:
    """Compare the predictions at the targets of an exam with the truth."""
    num_last = max(len(targets) for _, targets in rows)
    logits = backbone.logits([tokens for tokens, _ in rows], images, range(len(rows)), num_last)
    fractions = torch.linspace(0, 1, len(backbone.levels))
    for n, (_, targets) in enumerate(rows):
        for k, target in enumerate(targets, num_last - len(targets)):
            if target in backbone.chat.label_ids:
                probs = torch.softmax(logits[n, k, backbone.label_ids], -1)
                truth = fractions[backbone.chat.label_ids.index(target)]
                error = abs(float(probs @ fractions - truth))
                found.setdefault(f"score_error_{name}", []).append(error)
            elif target != IGNORED and (kind := _word_kind(words[target])) and name != CARE[0]:
                hit = float(logits[n, k].argmax() == target)
                found.setdefault(f"{kind}_{name}", []).append(hit)
                if kind == "verdicts" and name == CARE[2]:
                    found.setdefault(f"verdict_{words[target]}", []).append(hit)


def _at_once(
    backbone: Backbone, example: Example, judged: list[list[str]], noises: np.ndarray
) -> tuple[list[int], list[int]]:
    """The student's lines, with the generic label of some aspects as the target of each line."""
    targets = [IGNORED] * len(backbone.chat.lines)
    for offset, aspects, noise in zip(backbone.chat.score_offsets, judged, noises, strict=True):
        targets[offset] = generic_label(backbone, aspects, example.inspection, noise)
    return backbone.chat.lines, targets


def _word_kind(word: str) -> str:
    if word in COLOURS:
        return "colours"
    if word in SHAPES:
        return "shapes"
    return "verdicts" if is_verdict(word) else ""


def _all_words() -> list[str]:
    """Every word of the world, so that the vocabulary does not depend on what was sampled."""
    return [
        *VERDICTS,
        *KIND_WORDS,
        *(place.replace(" ", "") for place in PLACES),
        *COLOURS,
        *SHAPES,
        "nothing",
        *all_prompts(),
    ]
