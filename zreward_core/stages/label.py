"""label: teacher, unlabelled pool -> score distributions with traces (q_T of equation 15)."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from zreward_core.config import Count, DtypeName, SamplingTemperature, StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone, load_backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.models.teacher import judge_queries, query_seed
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.shards import compute_shards, read_shards
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import CANDIDATES, LABELS, read_table, write_table

logger = logging.getLogger(__name__)
OUTPUT = Path("data/label")
TEACHER = Path("data/train_gdso/teacher")
POOL, IMAGES = Path("data/candidates/pool.parquet"), Path("data/candidates/images")


class Config(StageConfig):
    """Labelling of the unlabelled pool by the teacher."""

    num_traces: Count = 2
    """Traces whose distributions are averaged."""
    max_items: Count | None = None
    """Label only the first images of the pool."""
    batch_size: Count = 16
    """Images per batch, each scored in all dimensions."""
    shard_items: Count = 512
    """Images per shard, the unit of checkpointing."""
    temperature: SamplingTemperature = 1.0
    """Sampling temperature of the traces."""
    dtype: DtypeName = "float32"
    """Torch dtype of the weights."""


def run(config: Config) -> None:
    """Write labels.parquet, with every dimension of every image of the pool.

    Processes share the work by shards; a shard's content is independent of their number.

    Raises:
        UserError: the pool is empty, or an input is missing.
    """
    pool = read_table(POOL, CANDIDATES).iloc[: config.max_items]
    if pool.empty:
        raise UserError(f"{POOL} is empty: give candidates images or prompts for the pool")
    backbone = load_backbone(TEACHER, config.dtype)
    backbone.network.to(pick_device())
    pool = without_long_prompts(backbone.chat, pool, POOL)
    images = ImageStore(IMAGES)
    checkpoint = Checkpoint("label", config, [TEACHER, POOL, IMAGES])

    def compute(part: slice) -> dict[str, Any]:
        return {"rows": label_items(backbone, config, pool.iloc[part], images)}

    names = compute_shards(checkpoint, "label", len(pool), config.shard_items, compute)
    if is_main():
        shards = read_shards(checkpoint, names)
        labels = pd.concat([pd.DataFrame(shard["rows"]) for shard in shards])
        with whole_output(OUTPUT, config) as folder:
            write_table(labels, folder / "labels.parquet", LABELS)
    checkpoint.clear()


def label_items(
    backbone: Backbone, config: Config, items: pd.DataFrame, images: ImageStore
) -> list[dict]:
    """Rows of labels.parquet for some images of the pool."""
    names = backbone.rubric.names
    rows: list[dict] = []
    for start in range(0, len(items), config.batch_size):
        batch = items.iloc[start : start + config.batch_size]
        identifiers, prompts = list(batch["item_id"]), list(batch["prompt"])
        pixels = [backbone.pixels.prepare(images.pixels(i)) for i in batch["image_id"]]
        queries = [(b, d) for b in range(len(batch)) for d in range(len(names))]
        seeds = [query_seed(config.seed, identifiers[b], names[d]) for b, d in queries]
        with precision():
            judged = judge_queries(
                backbone, prompts, pixels, queries, config.num_traces, seeds, config.temperature
            )
        for q, (b, d) in enumerate(queries):
            rows.append(
                {
                    "item_id": identifiers[b],
                    "prompt": prompts[b],
                    "image_id": batch["image_id"].iloc[b],
                    "dimension": names[d],
                    "probs": judged.probs[q].tolist(),
                    "spread": judged.spread[q].item(),
                    "mass": judged.mass[q].item(),
                    "trace": judged.traces[q],
                }
            )
    return rows
