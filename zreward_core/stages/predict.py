"""predict: a model of any method, items of some splits -> its predictions."""

from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone
from zreward_core.models.prompt_limit import short_for_all
from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_table
from zreward_core.stages._engine import has_engine, rollout_engine
from zreward_core.stages._judging import (
    SHARD_IMAGES,
    SHARD_IMAGES_REASONING,
    Judging,
    Rows,
    in_batches,
    one_token_rows,
    predict_shards,
    read_predictions,
    reasoning_rows,
    with_pixels,
)

OUTPUT = Path("data/predict")
ITEMS_FILE = Path("data/validate/items.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(Judging):
    """Predictions of one model."""

    model: Path = Path("data/train_risd/student")
    """Model folder."""
    reasoning: bool = False
    """Reason, one dimension at a time; otherwise score all dimensions in one forward pass."""
    judged_splits: list[Literal["test", "validation"]] = ["test"]
    """Splits to predict; settings are chosen on validation, results are reported on test."""


def run(config: Config) -> None:
    """Write predictions.parquet, without the items whose prompt is too long for the model.

    Raises:
        UserError: a split has no item with an image, or an input is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[items["split"].isin(config.judged_splits) & items["image_id"].notna()]
    for split in config.judged_splits:
        if split not in set(items["split"]):
            raise UserError(f"{ITEMS_FILE}: no {split} items with images: annotate more")
    items = short_for_all([config.model], items, ITEMS_FILE)
    predict = predict_reasoning if config.reasoning else predict_at_once
    checkpoint = Checkpoint("predict", config, [config.model, ITEMS_FILE])
    shards = predict(config, checkpoint, "predict", config.model, items, ImageStore(*IMAGES))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            predictions = read_predictions(shards, items)
            predictions.to_parquet(folder / "predictions.parquet", index=False)
    checkpoint.clear()


def predict_at_once(
    config: Judging,
    checkpoint: Checkpoint,
    name: str,
    folder: Path,
    items: pd.DataFrame,
    images: ImageStore,
) -> list[Path]:
    """Shards of predictions of a one-token scorer: one output token per dimension.

    Args:
        checkpoint, name, items: see ``predict_shards``.
        folder: of the model.
    """

    @cache  # not loaded by a process that finds all shards
    def model() -> RewardModel:
        return RewardModel.from_pretrained(folder, pick_device(), config.dtype)

    def predict(shown: pd.DataFrame) -> Rows:
        scores = model().score(list(shown["prompt"]), images.all_pixels(shown["image_id"]))
        probs, means = scores.probs.numpy(), scores.mean.numpy()
        return one_token_rows(shown["item_id"], model().dimensions, probs, means)

    return predict_shards(checkpoint, name, items, SHARD_IMAGES, predict)


def predict_reasoning(
    config: Judging,
    checkpoint: Checkpoint,
    name: str,
    folder: Path,
    items: pd.DataFrame,
    images: ImageStore,
) -> list[Path]:
    """Shards of predictions of a reasoning model: distributions averaged over traces.

    Args:
        checkpoint, name, items: see ``predict_shards``.
        folder: of the model.
    """
    TeacherJudge.require_role(folder)

    @cache
    def backbone() -> Backbone:
        found = load_backbone(folder, config.dtype)
        found.network.to(pick_device())
        return found

    def predict(shown: pd.DataFrame) -> Rows:
        batches = with_pixels(backbone(), in_batches(config, shown), images)
        return [row for one in batches for row in reasoning_rows(config, backbone(), *one)]

    size = config.batch_size * max(1, SHARD_IMAGES_REASONING // config.batch_size)
    with (
        rollout_engine(checkpoint.stage, backbone())
        if has_engine(checkpoint.stage)
        else nullcontext()
    ):
        return predict_shards(checkpoint, name, items, size, predict)
