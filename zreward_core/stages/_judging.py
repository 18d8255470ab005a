"""Scores of items by a model, on all processes. Not a stage.

Shapes: b images of a batch, d dimensions, q queries (an image and a dimension).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from zreward_core.config import Count, DtypeName, SamplingTemperature, StageConfig
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.models.scorer import student_scores
from zreward_core.models.teacher import Judged, judge_queries, query_seed
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import gather, processes
from zreward_core.runtime.progress import track
from zreward_core.runtime.shards import compute_shards
from zreward_core.training.images import PreparedImages

SHARD_IMAGES, SHARD_IMAGES_REASONING = 256, 64
"""Images of a shard, about: a minute of work on a GPU."""
PREDICTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("dimension", pa.string()),
        ("probs", pa.list_(pa.float64())),
        ("mean", pa.float64()),
        ("output_tokens", pa.float64()),
        ("trace", pa.large_string()),
    ]
)
Rows = list[tuple]
"""Rows of ``PREDICTIONS``."""


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
    parts: list[tuple[int, Rows]] = []
    starts, batches = _own_batches(config, items)
    prepared = with_pixels(backbone, batches, images)
    for start, (batch, pixels) in zip(starts, prepared, strict=True):
        log_probs, _ = student_scores(backbone, list(batch["prompt"]), pixels)
        probs = log_probs.exp().double().cpu()
        means = means_of(backbone, probs)
        rows = one_token_rows(batch["item_id"], backbone.rubric.names, probs.numpy(), means)
        parts.append((start, rows))
    return _gathered(parts, items)


def score_items_reasoning(
    config: Judging, backbone: Backbone, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Predictions of a reasoning model in training; batches are divided over processes."""
    starts, batches = _own_batches(config, items)
    prepared = with_pixels(backbone, batches, images)
    parts = [
        (start, reasoning_rows(config, backbone, *next(prepared)))
        for start in track(starts, f"predicting with {backbone.source}")
    ]
    return _gathered(parts, items)


def predict_shards(
    checkpoint: Checkpoint,
    name: str,
    items: pd.DataFrame,
    size: int,
    predict: Callable[[pd.DataFrame], Rows],
) -> list[Path]:
    """Predictions as shards in the checkpoint, divided over processes (``compute_shards``).

    Args:
        name: of the model among those of the stage.
        items: rows of ``schemas.ITEMS``, several for an image.
        size: images of a shard.
        predict: rows of some images.
    """
    shown = items.drop_duplicates("item_id")

    def compute(part: slice) -> pd.DataFrame:
        return pd.DataFrame(predict(shown.iloc[part]), columns=PREDICTIONS.names)

    label = f"scored images ({name})"
    return compute_shards(checkpoint, f"{name}_", len(shown), size, PREDICTIONS, compute, label)


def read_predictions(shards: list[Path], items: pd.DataFrame) -> pd.DataFrame:
    """Predictions of the items' dimensions, from shards; for the main process."""
    found = pd.concat([pd.read_parquet(path) for path in shards], ignore_index=True)
    return items[["item_id", "dimension"]].merge(found)


def one_token_rows(
    items: Iterable[str], names: list[str], probs: np.ndarray, means: np.ndarray
) -> Rows:
    """Rows of images that a one-token scorer scored: probs [b, d, S] and means [b, d]."""
    return [
        (item, name, probs[b, d].tolist(), means[b, d].item(), 1.0, "")
        for b, item in enumerate(items)
        for d, name in enumerate(names)
    ]


def reasoning_rows(
    config: Judging, backbone: Backbone, batch: pd.DataFrame, pixels: Sequence[torch.Tensor]
) -> Rows:
    """Rows of a batch of images that a reasoning model judges in all dimensions."""
    keys, judged = judge_batch(config, backbone, batch, pixels)
    probs = judged.probs.double()
    means = means_of(backbone, probs)
    return [
        (*key, probs[q].tolist(), means[q], judged.num_tokens[q].item(), judged.traces[q])
        for q, key in enumerate(keys)
    ]


def means_of(backbone: Backbone, probs: torch.Tensor) -> np.ndarray:
    """Expected scores of distributions [..., S]; each alone, so that it does not depend on others.

    A product of matrices rounds by its size.
    """
    levels = torch.tensor(backbone.rubric.levels, dtype=probs.dtype)
    means = [expected_score(row, levels).item() for row in probs.flatten(0, -2)]
    return np.array(means).reshape(probs.shape[:-1])


def judge_batch(
    config: Judging, backbone: Backbone, batch: pd.DataFrame, pixels: Sequence[torch.Tensor]
) -> tuple[list[tuple[str, str]], Judged]:
    """Judge some images in all dimensions.

    Args:
        batch: rows of the images, with item_id and prompt.
        pixels: the resized images.

    Returns:
        item_id and dimension of each query, those of an image adjacent; the judgement of each.
    """
    names = backbone.rubric.names
    queries = [(b, d) for b in range(len(batch)) for d in range(len(names))]
    keys = [(batch["item_id"].iloc[b], names[d]) for b, d in queries]
    seeds = [query_seed(config.seed, *key) for key in keys]
    prompts = list(batch["prompt"])
    return keys, judge_queries(
        backbone, prompts, pixels, queries, config.num_traces, seeds, config.temperature
    )


def in_batches(config: Judging, items: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of images, as many at a time as a reasoning model judges together."""
    size = config.batch_size
    return [items.iloc[start : start + size] for start in range(0, len(items), size)]


def with_pixels(
    backbone: Backbone, batches: Sequence[pd.DataFrame], images: ImageStore
) -> Iterator[tuple[pd.DataFrame, list[torch.Tensor]]]:
    """Batches with their resized images; those of the next one are prepared meanwhile."""
    prepared = PreparedImages(backbone.pixels, images)
    for number, batch in enumerate(batches):
        pixels = [prepared[identifier] for identifier in batch["image_id"]]
        for following in batches[number + 1 : number + 2]:
            prepared.prefetch(following["image_id"])
        yield batch, pixels


def _own_batches(config: Judging, items: pd.DataFrame) -> tuple[list[int], list[pd.DataFrame]]:
    """This process's batches of images, and the position of the first of each."""
    shown = items.drop_duplicates("item_id")
    state, starts = processes(), list(range(0, len(shown), config.batch_size))
    own = slice(state.process_index, None, state.num_processes)
    return starts[own], in_batches(config, shown)[own]


def _gathered(parts: list[tuple[int, Rows]], items: pd.DataFrame) -> pd.DataFrame:
    """Predictions of all processes, from the rows of batches by the position of their first."""
    rows = [row for _, rows in sorted(gather(parts)) for row in rows]
    found = pd.DataFrame(rows, columns=PREDICTIONS.names)
    return items[["item_id", "dimension"]].merge(found)
