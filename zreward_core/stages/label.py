"""label: teacher, unlabelled pool -> traces, score distributions (q_T of equation 15).

Shapes: N traces, S levels.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from zreward_core.config import Count, UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.models.teacher import average_traces
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.outputs import link_or_copy, whole_output
from zreward_core.runtime.shards import compute_shards
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import CANDIDATES, LABELS, TRACES, read_table
from zreward_core.stages._engine import rollout_engine
from zreward_core.stages._judging import Judging, in_batches, judge_batch, with_pixels

logger = logging.getLogger(__name__)
OUTPUT = Path("data/label")
TEACHER = Path("data/train_gdso/teacher")
POOL, IMAGES = Path("data/candidates/pool.parquet"), Path("data/candidates/images")


class Config(Judging):
    """Labelling of the unlabelled pool by the teacher."""

    max_items: Count | None = None
    """Label only the first images of the pool."""
    shard_items: Count = 512
    """Images per shard, the unit of checkpointing."""


def run(config: Config) -> None:
    """Write traces/ and labels.parquet, with every dimension of every image of the pool.

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
    checkpoint = Checkpoint("label", config, [TEACHER, POOL])

    def compute(part: slice) -> pd.DataFrame:
        return sample_traces(backbone, config, pool.iloc[part], images)

    size = config.shard_items
    with rollout_engine("label", backbone):
        shards = compute_shards(
            checkpoint, "label", len(pool), size, TRACES, compute, "labelled images"
        )
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            write_labels(shards, pool, config.num_traces, backbone.levels.cpu(), folder)
    checkpoint.clear()


def sample_traces(
    backbone: Backbone, config: Config, items: pd.DataFrame, images: ImageStore
) -> pd.DataFrame:
    """Rows of ``schemas.TRACES`` for some images of the pool; those of an item are adjacent."""
    parts: list[pd.DataFrame] = []
    for batch, pixels in with_pixels(backbone, in_batches(config, items), images):
        with precision():
            keys, judged = judge_batch(config, backbone, batch, pixels)
        rollouts = judged.rollouts
        rows = [(*key, number) for key in keys for number in range(config.num_traces)]
        part = pd.DataFrame(rows, columns=["item_id", "dimension", "number"])
        part["trace"] = [backbone.chat.text(tokens) for tokens in rollouts.tokens]
        part["tokens"] = rollouts.tokens
        part["closed"] = rollouts.closed.tolist()
        part["probs"] = rollouts.log_probs.exp().tolist()
        part["mass"] = rollouts.mass.tolist()
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def write_labels(
    shards: list[Path], pool: pd.DataFrame, num_traces: int, levels: torch.Tensor, folder: Path
) -> None:
    """Write labels.parquet from shards of traces, one at a time, and the shards into traces/.

    Args:
        shards: files of ``schemas.TRACES``.
        pool: rows of ``schemas.CANDIDATES``.
        num_traces: traces of an item in a dimension.
        levels: [S] score of each level.
    """
    (folder / "traces").mkdir(parents=True)
    shown = pool.set_index("item_id")[["prompt", "image_id"]]
    with pq.ParquetWriter(folder / "labels.parquet", LABELS) as labels:
        for index, shard in enumerate(shards):
            traces = pq.read_table(shard, columns=["item_id", "dimension", "probs", "mass"])
            rows = labels_of(traces.to_pandas(), num_traces, levels).join(shown, on="item_id")
            table = pa.Table.from_pandas(rows[LABELS.names], LABELS, preserve_index=False)
            labels.write_table(table.replace_schema_metadata(None))
            link_or_copy(shard, folder / "traces" / f"{index:05d}.parquet")


def labels_of(traces: pd.DataFrame, num_traces: int, levels: torch.Tensor) -> pd.DataFrame:
    """Labels without prompt and image: a function of the traces alone.

    Args:
        traces: rows of ``schemas.TRACES``; the traces of an item in a dimension are adjacent.
        num_traces: their number.
        levels: [S] score of each level.
    """
    probs_NS = torch.tensor(np.stack(traces["probs"].tolist()), dtype=torch.float32)
    mass_N = torch.tensor(traces["mass"].to_numpy(), dtype=torch.float32)
    probs, spread, mass = average_traces(
        probs_NS.unflatten(0, (-1, num_traces)), mass_N.unflatten(0, (-1, num_traces)), levels
    )
    labels = traces[["item_id", "dimension"]].iloc[::num_traces].reset_index(drop=True)
    return labels.assign(probs=probs.tolist(), spread=spread.tolist(), mass=mass.tolist())
