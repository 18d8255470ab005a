"""train_risd: labels, student base -> student (method, section 5).

Shapes: B pictures of a batch's part, D dimensions, S levels.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbones import Backbone, TrainedWeights, load_backbone, open_backbone
from zreward_core.models.batches import Labelled, load_labelled
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.models.scorer import student_scores
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.loops import History, Part, SupervisedConfig, supervised
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.sharding import even, place, unsharded
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import LABELS, read_table

logger = logging.getLogger(__name__)
OUTPUT = Path("data/train_risd")
BASE = Path("data/base_vlm/student")
LABELS_FILE = Path("data/label/labels.parquet")
IMAGES = Path("data/candidates/images")


class Config(SupervisedConfig, TrainedWeights):
    """Reasoning-Internalized Score Distillation of the student."""

    targets: Literal["distribution", "score"] = "distribution"
    """What is distilled: the teacher's distribution, or only the level next to its mean."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: there is no label, or an input is missing.
    """
    labels = read_table(LABELS_FILE, LABELS)
    if labels.empty:
        raise UserError(f"{LABELS_FILE} is empty: nothing to distil")
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_risd", config, [BASE, LABELS_FILE, IMAGES])
    history: History = []
    if config.steps:
        data = load_labelled(backbone, labels, "probs", ImageStore(IMAGES))
        history = train(backbone, config, data, checkpoint)
        backbone = unsharded(backbone, lambda: open_backbone(BASE, config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_risd",
                "base": tree_hash(BASE),
                "labels": tree_hash(LABELS_FILE),
            }
            backbone.save(folder / "student", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def train(backbone: Backbone, config: Config, data: Labelled, checkpoint: Checkpoint) -> History:
    """Minimise equation 15 over the labelled pictures, epoch after epoch."""
    even(min(config.batch_size, len(data.prompts)), "train_risd.batch_size")
    if config.targets == "score":
        data = replace(data, probs_NDS=hard_scores(data.probs_NDS, backbone.levels))
    backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
    place(backbone.network)
    return supervised(
        backbone,
        config,
        "train_risd",
        len(data.prompts),
        partial(distil, backbone, config, data),
        checkpoint,
    )


def hard_scores(probs_NDS: torch.Tensor, levels_S: torch.Tensor) -> torch.Tensor:
    """All probability on the level next to the distribution's mean (of two, the lower)."""
    means_ND = expected_score(probs_NDS, levels_S)
    nearest_ND = (means_ND[..., None] - levels_S).abs().argmin(-1)
    return F.one_hot(nearest_ND, len(levels_S)).to(probs_NDS)


def distil(
    backbone: Backbone, config: Config, data: Labelled, part: list[int], batch: list[int]
) -> Part:
    """Equation 15 on part of a batch with the mass term; the error of the expected score beside."""
    num_items = float(data.mask_ND[batch].sum())
    prompts, images = [data.prompts[i] for i in part], [data.images[i] for i in part]
    with precision():
        log_probs_BDS, mass_BD = student_scores(backbone, prompts, images)
    target_BDS = data.probs_NDS[part].to(log_probs_BDS)
    mask_BD = data.mask_ND[part].to(log_probs_BDS.device)
    loss = risd_loss(target_BDS, log_probs_BDS, mask_BD, num_items)
    mass = mass_loss(mass_BD[mask_BD], num_items)
    gap = expected_score(log_probs_BDS.detach().exp() - target_BDS, backbone.levels)
    error = ((gap.abs() * mask_BD).sum() / num_items).item()
    return loss + config.mass_weight * mass, {"loss/total": loss.item(), "score/error": error}
