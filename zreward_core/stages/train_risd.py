"""train_risd: labels, student base -> one-token student (equation 15).

Reasoning-Internalized Score Distillation: the one-token student learns the distributions that the
teacher predicts after reasoning. Shapes: N images, D dimensions, S levels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from zreward_core.config import UserError, Weight
from zreward_core.images import ImageStore
from zreward_core.losses.risd import risd_loss
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.sharding import place, unsharded
from zreward_core.schemas import LABELS, read_table
from zreward_core.stages import _training as shared
from zreward_core.stages._validation import Validated, Validation
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.samplers import load_labelled
from zreward_core.training.supervised import supervised_steps
from zreward_core.training.updates import History

OUTPUT = Path("data/train_risd")
BASE = Path("data/base_vlm/student")
LABELS_FILE = Path("data/label/labels.parquet")
IMAGES = Path("data/candidates/images")


class Config(shared.SupervisedConfig, Validated):
    """Reasoning-Internalized Score Distillation of the student."""

    mass_weight: Weight = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""
    targets: Literal["distribution", "score"] = "distribution"
    """Whether targets are the teacher's distributions or only the levels nearest to their means."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: there is no label, or an input is missing.
    """
    labels = read_table(LABELS_FILE, LABELS)
    if labels.empty:
        raise UserError(f"{LABELS_FILE} has no labels: run label on a pool that is not empty")
    sources = {"base": BASE, "labels": LABELS_FILE}
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_risd", config, sources.values())
    history: History = []
    if config.steps:
        data = load_labelled(backbone, labels, "probs", ImageStore(IMAGES))
        if config.targets == "score":
            data = replace(data, probs_NDS=hard_scores(data.probs_NDS, backbone.levels))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_risd", config, config.seed, checkpoint, reasoning=False
        )
        for step in supervised_steps(
            backbone,
            "train_risd",
            len(data.prompts),
            checkpoint,
            history,
            prefetch=data.prefetch,
            validation=validation,
            **config.loop,
        ):
            step.update(  # L_RISD (15)
                one_token_loss(backbone, data, risd_loss, config.mass_weight, part, step.batch)
                for part in step.parts()
            )
        backbone = unsharded(backbone, lambda: open_backbone(BASE, config, config.seed))
    shared.save_trained(OUTPUT / "student", config, backbone, history, checkpoint, sources)


def hard_scores(probs_NDS: torch.Tensor, levels_S: torch.Tensor) -> torch.Tensor:
    """One-hot distributions on the level nearest to the mean (the lower of two)."""
    means_ND = expected_score(probs_NDS, levels_S)
    nearest_ND = (means_ND[..., None] - levels_S).abs().argmin(-1)
    return F.one_hot(nearest_ND, len(levels_S)).to(probs_NDS)
