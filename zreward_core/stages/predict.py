"""predict: a model of any method, items of some splits -> its predictions."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from zreward_core.config import Count, DtypeName, SamplingTemperature, StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import load_backbone
from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge, judge_queries, query_seed
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import gather, processes
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_table

OUTPUT = Path("data/predict")
ITEMS_FILE = Path("data/validate/items.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Judging(StageConfig):
    """Settings of inference."""

    num_traces: Count = 2
    """Traces averaged per query; reasoning models only."""
    temperature: SamplingTemperature = 1.0
    """Sampling temperature of the traces."""
    batch_size: Count = 16
    """Images per batch; reasoning models only."""
    dtype: DtypeName = "float32"
    """Torch dtype of the weights."""


class Config(Judging):
    """Predictions of one model."""

    model: Path = Path("data/train_risd/student")
    """Model folder."""
    reasoning: bool = False
    """Reason, one dimension at a time; otherwise score all dimensions in one forward pass."""
    judged_splits: list[Literal["test", "validation"]] = ["test"]
    """Splits to predict; settings are chosen on validation, results are reported on test."""


def run(config: Config) -> None:
    """Write predictions.parquet.

    Raises:
        UserError: a split has no item with an image, or an input is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[items["split"].isin(config.judged_splits) & items["image_id"].notna()]
    for split in config.judged_splits:
        if split not in set(items["split"]):
            raise UserError(f"{ITEMS_FILE}: no {split} items with images: annotate more")
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
    pixels = [images.pixels(i) for i in shown["image_id"]]
    scores = model.score(list(shown["prompt"]), pixels)
    means = scores.mean
    rows = [
        (item, name, scores.probs[b, d].tolist(), means[b, d].item(), 1.0, "")
        for b, item in enumerate(shown["item_id"])
        for d, name in enumerate(model.dimensions)
    ]
    return _predictions(rows, items)


def predict_reasoning(
    config: Judging, folder: Path, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Predictions of a reasoning model: distributions averaged over traces.

    Batches are divided over processes; every process returns all predictions.
    """
    TeacherJudge.require_role(folder)
    backbone = load_backbone(folder, config.dtype)
    backbone.network.to(pick_device())
    names = backbone.rubric.names
    shown = items.drop_duplicates("item_id")
    levels = np.asarray(backbone.rubric.levels)
    state, starts = processes(), range(0, len(shown), config.batch_size)
    own = starts[state.process_index :: state.num_processes]
    parts: list[tuple[int, list[tuple]]] = []
    for start in track(own, f"predicting with {folder}"):
        rows: list[tuple] = []
        batch = shown.iloc[start : start + config.batch_size]
        identifiers = list(batch["item_id"])
        pixels = [backbone.pixels.prepare(images.pixels(i)) for i in batch["image_id"]]
        queries = [(b, d) for b in range(len(batch)) for d in range(len(names))]
        seeds = [query_seed(config.seed, identifiers[b], names[d]) for b, d in queries]
        judged = judge_queries(
            backbone,
            list(batch["prompt"]),
            pixels,
            queries,
            config.num_traces,
            seeds,
            config.temperature,
        )
        for q, (b, d) in enumerate(queries):
            probs = judged.probs[q].double().numpy()
            tokens = judged.num_tokens[q].item()
            rows.append(
                (identifiers[b], names[d], probs.tolist(), probs @ levels, tokens, judged.traces[q])
            )
        parts.append((start, rows))
    return _predictions([row for _, rows in sorted(gather(parts)) for row in rows], items)


def _predictions(rows: list[tuple], items: pd.DataFrame) -> pd.DataFrame:
    columns = ["item_id", "dimension", "probs", "mean", "output_tokens", "trace"]
    return items[["item_id", "dimension"]].merge(pd.DataFrame(rows, columns=columns))
