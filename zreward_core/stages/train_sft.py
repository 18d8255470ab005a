"""train_sft: items, base -> a one-token scorer fine-tuned on annotated scores."""

from pathlib import Path
from typing import Literal

from zreward_core.config import Weight
from zreward_core.images import ImageStore
from zreward_core.losses.sft import score_cross_entropy
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.sharding import place, unsharded
from zreward_core.stages import _training as shared
from zreward_core.stages._validation import Validated, Validation
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.samplers import load_labelled
from zreward_core.training.supervised import supervised_steps
from zreward_core.training.updates import History

OUTPUT = Path("data/train_sft")


class Config(shared.SupervisedConfig, Validated):
    """Supervised fine-tuning on annotated scores: one token, no reasoning."""

    base: Literal["teacher", "student"] = "student"
    """Which base is trained."""
    mass_weight: Weight = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""


def run(config: Config) -> None:
    """Write scorer/ and history.jsonl.

    Raises:
        UserError: no training item with an image, or an input is missing.
    """
    items = shared.training_items()
    base = shared.BASES / config.base
    sources = {"base": base, "items": shared.ITEMS_FILE}
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_sft", config, sources.values())
    history: History = []
    if config.steps:
        data = load_labelled(backbone, items, "histogram", ImageStore(*shared.IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_sft", config, config.seed, checkpoint, reasoning=False
        )
        for step in supervised_steps(
            backbone,
            "train_sft",
            len(data.prompts),
            checkpoint,
            history,
            prefetch=data.prefetch,
            validation=validation,
            **config.loop,
        ):
            step.update(
                one_token_loss(
                    backbone, data, score_cross_entropy, config.mass_weight, part, step.batch
                )
                for part in step.parts()
            )
        backbone = unsharded(backbone, lambda: open_backbone(base, config, config.seed))
    shared.save_trained(OUTPUT / "scorer", config, backbone, history, checkpoint, sources)
