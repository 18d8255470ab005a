"""train_sft: items, base -> a one-token scorer taught by the annotations (method, section 6).

Shapes: B images of a batch's part, D dimensions, S levels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.sft import score_cross_entropy
from zreward_core.models.backbone import Backbone, TrainedWeights, load_backbone, open_backbone
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.models.scorer import student_scores
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_table
from zreward_core.training.loops import History, Part, SupervisedConfig, supervised
from zreward_core.training.samplers import Labelled, load_labelled

OUTPUT = Path("data/train_sft")
BASES = Path("data/base_vlm")
ITEMS_FILE = Path("data/validate/items.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")
Criterion = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Of log probabilities and targets [B, D, S], which count [B, D], and the number of the batch."""


class OneTokenConfig(SupervisedConfig, TrainedWeights):
    """Training of a scorer that answers at once."""

    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""


class Config(OneTokenConfig):
    """Supervised fine-tuning on annotated scores: one token, no reasoning."""

    base: Literal["teacher", "student"] = "student"
    """Which base is trained."""


def run(config: Config) -> None:
    """Write scorer/ and history.jsonl.

    Raises:
        UserError: no training item with an image, or an input is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[(items["split"] == "train") & items["image_id"].notna()]
    if items.empty:
        raise UserError(f"{ITEMS_FILE} has no training item with an image: annotate some")
    base = BASES / config.base

    def load(backbone: Backbone) -> Labelled:
        return load_labelled(backbone, items, "histogram", ImageStore(*IMAGES))

    sources = {"base": base, "items": ITEMS_FILE}
    teach(OUTPUT / "scorer", config, sources, IMAGES, load, score_cross_entropy)


def teach(
    path: Path,
    config: OneTokenConfig,
    sources: dict[str, Path],
    images: Sequence[Path],
    load: Callable[[Backbone], Labelled],
    criterion: Criterion,
) -> None:
    """Teach a base distributions over scores at one token, and write it beside its history.

    Args:
        path: where the model goes, in a folder that is named after the stage.
        sources: the base, and what the distributions come from, by their names in the lineage.
        images: folders of the images.
        load: reads images and distributions for the base.
        criterion: distance of the scores from the distributions.

    Raises:
        UserError: an input is missing.
    """
    base, stage = sources["base"], path.parent.name
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint(stage, config, [*sources.values(), *images])
    history: History = []
    if config.steps:
        history = train(backbone, config, load(backbone), stage, criterion, checkpoint)
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    if is_main():
        with whole_output(path.parent, config) as folder:
            lineage = {name: tree_hash(source) for name, source in sources.items()}
            backbone.save(folder / path.name, {"stage": stage} | lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def train(
    backbone: Backbone,
    config: OneTokenConfig,
    data: Labelled,
    stage: str,
    criterion: Criterion,
    checkpoint: Checkpoint,
) -> History:
    """Minimise the criterion over the labelled images, epoch after epoch."""
    require_divisible(min(config.batch_size, len(data.prompts)), f"{stage}.batch_size")
    backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
    place(backbone.network)
    return supervised(
        backbone,
        config,
        stage,
        len(data.prompts),
        partial(loss_of, backbone, config, data, criterion),
        checkpoint,
    )


def loss_of(
    backbone: Backbone,
    config: OneTokenConfig,
    data: Labelled,
    criterion: Criterion,
    part: list[int],
    batch: list[int],
) -> Part:
    """The criterion on part of a batch with the mass term; the error of the expected score."""
    num_items = float(data.mask_ND[batch].sum())
    prompts, images = [data.prompts[i] for i in part], [data.images[i] for i in part]
    with precision():
        log_probs_BDS, mass_BD = student_scores(backbone, prompts, images)
    target_BDS = data.probs_NDS[part].to(log_probs_BDS)
    mask_BD = data.mask_ND[part].to(log_probs_BDS.device)
    loss = criterion(log_probs_BDS, target_BDS, mask_BD, num_items)
    mass = mass_loss(mass_BD[mask_BD], num_items)
    gap = expected_score(log_probs_BDS.detach().exp() - target_BDS, backbone.levels)
    error = ((gap.abs() * mask_BD).sum() / num_items).item()
    return loss + config.mass_weight * mass, {"loss/total": loss.item(), "score/error": error}
