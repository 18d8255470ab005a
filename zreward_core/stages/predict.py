"""predict: a model of any method, items of some splits -> its predictions."""

from pathlib import Path
from typing import Literal

import pandas as pd

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.models.prompt_limit import short_for_all
from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_table
from zreward_core.stages._engine import rollout_engine
from zreward_core.stages._judging import Judging, as_predictions, score_items_reasoning

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
    predictions = predict(config, config.model, items, ImageStore(*IMAGES))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            predictions.to_parquet(folder / "predictions.parquet", index=False)


def predict_at_once(
    config: Judging, folder: Path, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Predictions of a one-token scorer: one output token per dimension."""
    model = RewardModel.from_pretrained(folder, pick_device(), config.dtype)
    shown = items.drop_duplicates("item_id")
    scores = model.score(list(shown["prompt"]), images.all_pixels(shown["image_id"]))
    means = scores.mean
    rows = [
        (item, name, scores.probs[b, d].tolist(), means[b, d].item(), 1.0, "")
        for b, item in enumerate(shown["item_id"])
        for d, name in enumerate(model.dimensions)
    ]
    return as_predictions(rows, items)


def predict_reasoning(
    config: Judging,
    folder: Path,
    items: pd.DataFrame,
    images: ImageStore,
    stage: str = "predict",
) -> pd.DataFrame:
    """Predictions of a reasoning model: distributions averaged over traces.

    Batches are divided over processes; every process returns all predictions.

    Args:
        stage: the one that predicts, for its rollout engine.
    """
    TeacherJudge.require_role(folder)
    backbone = load_backbone(folder, config.dtype)
    backbone.network.to(pick_device())
    with rollout_engine(stage, backbone):
        return score_items_reasoning(config, backbone, items, images)
