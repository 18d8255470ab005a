"""Scores of items by a loaded model, on all processes. Not a stage.

Shapes: b images of a batch, d dimensions, q queries (an image and a dimension).
"""

import numpy as np
import pandas as pd

from zreward_core.config import Count, DtypeName, SamplingTemperature, StageConfig
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.scorer import student_scores
from zreward_core.models.teacher import Judged, judge_queries, query_seed
from zreward_core.runtime.distributed import gather, processes
from zreward_core.runtime.progress import track


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


def score_items(
    config: Judging, backbone: Backbone, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Predictions of a one-token scorer in training; batches are divided over processes."""
    names, levels = backbone.rubric.names, np.asarray(backbone.rubric.levels)
    parts: list[tuple[int, list[tuple]]] = []
    for start, batch in _own_batches(config, items):
        pixels = [backbone.pixels.prepare(images.pixels(i)) for i in batch["image_id"]]
        log_probs, _ = student_scores(backbone, list(batch["prompt"]), pixels)
        probs = log_probs.exp().double().cpu().numpy()
        rows = [
            (item, name, probs[b, d].tolist(), probs[b, d] @ levels, 1.0, "")
            for b, item in enumerate(batch["item_id"])
            for d, name in enumerate(names)
        ]
        parts.append((start, rows))
    return as_predictions([row for _, rows in sorted(gather(parts)) for row in rows], items)


def score_items_reasoning(
    config: Judging, backbone: Backbone, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Predictions of a loaded reasoning model; batches are divided over processes."""
    levels = np.asarray(backbone.rubric.levels)
    parts: list[tuple[int, list[tuple]]] = []
    for start, batch in track(_own_batches(config, items), f"predicting with {backbone.source}"):
        keys, judged = judge_batch(config, backbone, batch, images)
        probs = judged.probs.double().numpy()
        rows = [
            (
                *key,
                probs[q].tolist(),
                probs[q] @ levels,
                judged.num_tokens[q].item(),
                judged.traces[q],
            )
            for q, key in enumerate(keys)
        ]
        parts.append((start, rows))
    return as_predictions([row for _, rows in sorted(gather(parts)) for row in rows], items)


def judge_batch(
    config: Judging, backbone: Backbone, batch: pd.DataFrame, images: ImageStore
) -> tuple[list[tuple[str, str]], Judged]:
    """Judge some images in all dimensions.

    Returns:
        item_id and dimension of each query, those of an image adjacent; the judgement of each.
    """
    names = backbone.rubric.names
    pixels = [backbone.pixels.prepare(images.pixels(i)) for i in batch["image_id"]]
    queries = [(b, d) for b in range(len(batch)) for d in range(len(names))]
    keys = [(batch["item_id"].iloc[b], names[d]) for b, d in queries]
    seeds = [query_seed(config.seed, *key) for key in keys]
    prompts = list(batch["prompt"])
    return keys, judge_queries(
        backbone, prompts, pixels, queries, config.num_traces, seeds, config.temperature
    )


def _own_batches(config: Judging, items: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """This process's batches of images, each with the position of its first."""
    shown = items.drop_duplicates("item_id")
    state, starts = processes(), range(0, len(shown), config.batch_size)
    own = starts[state.process_index :: state.num_processes]
    return [(start, shown.iloc[start : start + config.batch_size]) for start in own]


def as_predictions(rows: list[tuple], items: pd.DataFrame) -> pd.DataFrame:
    columns = ["item_id", "dimension", "probs", "mean", "output_tokens", "trace"]
    return items[["item_id", "dimension"]].merge(pd.DataFrame(rows, columns=columns))
