"""train_sft: items, base -> a one-token scorer taught by the annotations (method, section 6).

Shapes: B pictures of a batch's part, D dimensions, S levels.
"""

from functools import partial
from pathlib import Path
from typing import Literal

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.sft import score_cross_entropy
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
from zreward_core.schemas import ITEMS, read_table

OUTPUT = Path("data/train_sft")
BASES = Path("data/base_vlm")
ITEMS_FILE = Path("data/validate/items.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(SupervisedConfig, TrainedWeights):
    """Supervised fine-tuning on annotated scores: one token, no reasoning."""

    base: Literal["teacher", "student"] = "student"
    """Which base is trained."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens."""


def run(config: Config) -> None:
    """Write scorer/ and history.jsonl.

    Raises:
        UserError: no training item with a picture, or an input is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[(items["split"] == "train") & items["image_id"].notna()]
    if items.empty:
        raise UserError(f"{ITEMS_FILE} has no training item with a picture: annotate some")
    base = BASES / config.base
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_sft", config, [base, ITEMS_FILE, *IMAGES])
    history: History = []
    if config.steps:
        data = load_labelled(backbone, items, "histogram", ImageStore(*IMAGES))
        history = train(backbone, config, data, checkpoint)
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_sft",
                "base": tree_hash(base),
                "items": tree_hash(ITEMS_FILE),
            }
            backbone.save(folder / "scorer", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def train(backbone: Backbone, config: Config, data: Labelled, checkpoint: Checkpoint) -> History:
    """Minimise the cross-entropy with the annotated scores, epoch after epoch."""
    even(min(config.batch_size, len(data.prompts)), "train_sft.batch_size")
    backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
    place(backbone.network)
    return supervised(
        backbone,
        config,
        "train_sft",
        len(data.prompts),
        partial(loss_of, backbone, config, data),
        checkpoint,
    )


def loss_of(
    backbone: Backbone, config: Config, data: Labelled, part: list[int], batch: list[int]
) -> Part:
    """Cross-entropy on part of a batch with the mass term; the error of the expected score."""
    num_items = float(data.mask_ND[batch].sum())
    prompts, images = [data.prompts[i] for i in part], [data.images[i] for i in part]
    with precision():
        log_probs_BDS, mass_BD = student_scores(backbone, prompts, images)
    target_BDS = data.probs_NDS[part].to(log_probs_BDS)
    mask_BD = data.mask_ND[part].to(log_probs_BDS.device)
    loss = score_cross_entropy(log_probs_BDS, target_BDS, mask_BD, num_items)
    mass = mass_loss(mass_BD[mask_BD], num_items)
    gap = expected_score(log_probs_BDS.detach().exp() - target_BDS, backbone.levels)
    error = ((gap.abs() * mask_BD).sum() / num_items).item()
    return loss + config.mass_weight * mass, {"loss/total": loss.item(), "score/error": error}
