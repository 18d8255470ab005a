"""train_risd: labels, student base -> student (method, section 5).

Shapes: B images of a batch's part, N images, D dimensions, S levels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.schemas import LABELS, read_table
from zreward_core.stages.train_sft import OneTokenConfig, teach
from zreward_core.training.samplers import Labelled, load_labelled

OUTPUT = Path("data/train_risd")
BASE = Path("data/base_vlm/student")
LABELS_FILE = Path("data/label/labels.parquet")
IMAGES = Path("data/candidates/images")


class Config(OneTokenConfig):
    """Reasoning-Internalized Score Distillation of the student."""

    targets: Literal["distribution", "score"] = "distribution"
    """What is distilled: the teacher's distribution, or only the level next to its mean."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: there is no label, or an input is missing.
    """
    labels = read_table(LABELS_FILE, LABELS)
    if labels.empty:
        raise UserError(f"{LABELS_FILE} is empty: nothing to distil")

    def load(backbone: Backbone) -> Labelled:
        data = load_labelled(backbone, labels, "probs", ImageStore(IMAGES))
        if config.targets == "distribution":
            return data
        return replace(data, probs_NDS=hard_scores(data.probs_NDS, backbone.levels))

    sources = {"base": BASE, "labels": LABELS_FILE}
    teach(OUTPUT / "student", config, sources, [IMAGES], load, divergence)


def hard_scores(probs_NDS: torch.Tensor, levels_S: torch.Tensor) -> torch.Tensor:
    """All probability on the level next to the distribution's mean (of two, the lower)."""
    means_ND = expected_score(probs_NDS, levels_S)
    nearest_ND = (means_ND[..., None] - levels_S).abs().argmin(-1)
    return F.one_hot(nearest_ND, len(levels_S)).to(probs_NDS)


def divergence(
    log_probs_BDS: torch.Tensor, target_BDS: torch.Tensor, mask_BD: torch.Tensor, num_items: float
) -> torch.Tensor:
    """Equation 15 over the labelled dimensions of part of a batch."""
    return risd_loss(target_BDS, log_probs_BDS, mask_BD, num_items)
