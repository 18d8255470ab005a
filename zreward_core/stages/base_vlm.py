"""base_vlm: world -> the base models of teacher and student.

The bases of a hub or a folder are pointers. Otherwise tiny Qwen3.5 models are pretrained on the
world: to describe and inspect images (thoroughly first, then with varying care), and to score them
by a generic notion of quality other than the rubric.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import model_validator

from zreward_core.config import Count, CountOrZero, Rate, StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import CARD, card
from zreward_core.models.loading import load_chat
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import DEMO_SHA256, RUBRIC_FILE, Rubric, load_rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import add_up, own_part
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import publish, track, write_history
from zreward_core.runtime.sharding import restore
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import read_table, require_finite, write_json
from zreward_core.stages._bases import BaseSource
from zreward_core.training.optimizers import make_optimizers, set_rates, trapezoid
from zreward_core.training.pretraining import (
    IGNORED,
    Curriculum,
    Example,
    TrainingSequence,
    sample_sequence,
    sequence_loss,
    vocabulary,
)
from zreward_core.training.pretraining_metrics import measure
from zreward_core.training.updates import DIVERGED, apply_gradients
from zreward_core.world.inspection import INSPECTIONS

logger = logging.getLogger(__name__)
OUTPUT = Path("data/base_vlm")
WORLD = Path("data/world")
TINY_BASES = Path("data/bases")
"""Folder of the pretrained tiny bases that the project comes with."""
MAX_NORM = 1.0
"""Gradients are clipped to this norm."""
LOG_EVERY = 10
"""Steps between rows of the history."""
NUM_MEASURED = 320
"""Held-out images on which a base is measured."""


class Pretraining(Curriculum):
    """Pretraining of a tiny base on the world."""

    steps: CountOrZero
    """Optimizer steps."""
    batch_size: Count = 64
    """Sequences per step."""
    micro_batches: Count = 2
    """Forward passes per step; sequences are grouped by length, which saves padding."""
    learning_rate: Rate = 3e-3
    """Peak learning rate of Muon."""
    checkpoint_every: Count = 200
    """Steps between checkpoints."""


class Base(BaseSource):
    """One base: a checkpoint of the hub or on disk, or a tiny model to pretrain."""

    max_pixels: Count | None = None
    """Larger images are resized to at most this many pixels, in training, labelling and scoring;
    null for the limit of the checkpoint (or of tiny models)."""
    tiny: TinySizes | None = None
    """Sizes of a tiny model."""
    pretraining: Pretraining | None = None
    """How a tiny model is pretrained; required with tiny."""

    @model_validator(mode="after")
    def _pretrained(self) -> "Base":
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
    """Texts around image and prompt, the same for both bases and all later stages."""
    aspects: dict[str, str] = {}
    """Rubric dimension to aspect of the world, where the names differ."""

    def faults(self, section: str) -> Iterator[str]:
        """Bases at a branch or tag."""
        for role, base in bases(self):
            yield from base.unfixed(f"{section}.{role}")


def run(config: Config) -> None:
    """Write teacher/, student/ and metrics.json.

    Raises:
        UserError: a tiny base is configured and the world is empty.
    """
    rubric = load_rubric()
    pretrained: dict[str, tuple[Backbone, list[dict[str, float]]]] = {}
    metrics, checkpoints = {}, []
    for index, (role, base) in enumerate(bases(config)):
        if base.tiny is None or base.pretraining is None:
            continue
        inputs = [WORLD / "inspections.parquet", WORLD / "images"]
        checkpoint = Checkpoint(f"base_vlm_{role}", config, inputs)
        checkpoints.append(checkpoint)
        table = read_table(WORLD / "inspections.parquet", INSPECTIONS)
        if table.empty:
            raise UserError(
                "params.yaml: world.size is 0: base_vlm needs hub_id or path instead of tiny"
            )
        seed = config.seed * 10 + index
        backbone = build_backbone(
            base.tiny, vocabulary(), rubric, config.prompt, seed, base.max_pixels
        )
        logger.info("%s: %.2f M parameters", role, backbone.num_parameters / 1e6)
        train, held_out = load_examples(backbone, table)
        aspects = [config.aspects.get(name, name) for name in rubric.names]
        history = pretrain(backbone, base.pretraining, train, aspects, seed, checkpoint, role)
        metrics[role] = measure(backbone, held_out[:NUM_MEASURED], aspects)
        require_finite(f"base_vlm, the {role} after its last step", metrics[role], DIVERGED)
        metrics[role]["num_parameters"] = backbone.num_parameters
        pretrained[role] = backbone, history
    if is_main():
        warn_of_rubric(config, rubric)
        with whole_output(OUTPUT, config) as folder:
            for role, base in bases(config):
                if role in pretrained:
                    backbone, history = pretrained[role]
                    backbone.save(folder / role, {"stage": "base_vlm", "params": base.model_dump()})
                    write_history(history, folder / role / "history.jsonl")
                else:
                    write_pointer(folder / role, base, rubric, config.prompt, f"base_vlm.{role}")
            write_json(metrics, folder / "metrics.json")
    for checkpoint in checkpoints:
        checkpoint.clear()


def bases(config: Config) -> list[tuple[str, Base]]:
    """Role and settings of the two bases."""
    return [("teacher", config.teacher), ("student", config.student)]


def warn_of_rubric(config: Config, rubric: Rubric) -> None:
    """Log a warning if real models would be trained by the rubric of the demo's images."""
    real = [
        f"base_vlm.{role}"
        for role, base in bases(config)
        if base.tiny is None and not (base.path and base.path.is_relative_to(TINY_BASES))
    ]
    if real and rubric.sha256 == DEMO_SHA256:
        logger.warning(
            "%s is the rubric of the demo, which describes images of coloured shapes, and %s are"
            " not the demo's models: write the rubric of your images (docs/rubric.md) before"
            " people rate them",
            RUBRIC_FILE,
            " and ".join(real),
        )


def write_pointer(
    folder: Path, base: Base, rubric: Rubric, prompt: PromptSettings, key: str
) -> None:
    """Write a model folder that refers to a checkpoint instead of holding weights.

    The checkpoint's config, tokenizer, chat template and image processor are opened, and the
    rubric's labels and the prompt's texts encoded; of a hub checkpoint only these are downloaded.

    Args:
        key: of the base's settings in params.yaml.

    Raises:
        UserError: a checkpoint is missing, has another sha256 than in params.yaml, or cannot be
            used with the rubric and the prompt's texts.
    """
    pointer = base.pointer(key) | {"max_pixels": base.max_pixels}
    folder.mkdir()
    write_json(card(rubric, prompt, None, {}) | pointer, folder / CARD)
    load_chat(folder)


def load_examples(backbone: Backbone, table: pd.DataFrame) -> tuple[list[Example], list[Example]]:
    """Pretraining images as (training examples, held-out examples)."""
    images = ImageStore(WORLD / "images")
    groups: tuple[list[Example], list[Example]] = [], []
    for row in table.itertuples():
        image = backbone.pixels.prepare(images.pixels(row.image_id))
        example = Example(row.prompt, image, json.loads(row.inspection))
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
    """Next-token prediction on descriptions, inspections and generic scores."""
    backbone.train_mode(lora=None)
    optimizers = make_optimizers(backbone.network, settings.learning_rate)
    history: list[dict[str, float]] = []
    start = 0
    if state := checkpoint.load("state"):
        backbone.network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            restore(optimizer, saved)
        history, start = state["history"], state["step"]
    for step in track(range(start, settings.steps), f"{role} base", settings.steps, start):
        rng = np.random.default_rng([seed, step])
        progress = step / settings.steps
        batch = [examples[i] for i in rng.integers(len(examples), size=settings.batch_size)]
        sequences = [sample_sequence(backbone, e, settings, aspects, progress, rng) for e in batch]
        images = [example.image for example in batch]
        loss = backward_by_length(backbone, sequences, images, settings.micro_batches)
        set_rates(optimizers, settings.learning_rate * trapezoid(step, settings.steps))
        place = f"base_vlm, step {step} of the {role}"
        apply_gradients(place, backbone.trainable(), optimizers, MAX_NORM, {"loss": loss})
        if step % LOG_EVERY == 0:
            history.append({"step": step} | add_up({"loss": loss}))
            publish("base_vlm", [{"step": step, f"{role}/loss": history[-1]["loss"]}])
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


def backward_by_length(
    backbone: Backbone,
    sequences: list[TrainingSequence],
    images: list[torch.Tensor],
    num_parts: int,
) -> float:
    """Gradients of the mean loss over all targets, computed in parts of similar length.

    Each process takes its part of the sequences; gradients and losses add up over processes.
    """
    order = sorted(own_part(len(sequences)), key=lambda i: len(sequences[i][0]))
    num_targets = sum(target != IGNORED for _, targets in sequences for target in targets)
    total = 0.0
    for part in np.array_split(np.array(order, dtype=int), num_parts):
        if not len(part):
            continue
        loss = sequence_loss(backbone, [sequences[i] for i in part], [images[i] for i in part])
        (loss / num_targets).backward()
        total += loss.item() / num_targets
    return total
