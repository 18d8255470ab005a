"""train_rewarddance: items, bases -> a reasoning model fine-tuned on post-hoc rationales.

RewardDance (arXiv:2509.08826) as Z-Reward compares with it (method, section 6): a stronger model,
shown the annotated score, writes the reasoning; fine-tuning is on the reasoning, then the score.
Shapes: B items, N items in all, S levels.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone, load_backbone, open_backbone
from zreward_core.models.teacher import query_seed
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import precision, processes, wait
from zreward_core.runtime.progress import track
from zreward_core.runtime.sharding import place, unsharded
from zreward_core.stages import _training as shared
from zreward_core.training.chains import Chains, best_chains, chain_loss
from zreward_core.training.supervised import supervised_steps
from zreward_core.training.updates import History

OUTPUT = Path("data/train_rewarddance")
WRITER = Path("data/base_vlm/teacher")


class Config(shared.SupervisedConfig):
    """Supervised fine-tuning on post-hoc rationales, then the score."""

    base: Literal["teacher", "student"] = "teacher"
    """Which base is trained; the rationales are always written by the teacher's base."""
    num_chains: int = Field(4, ge=1)
    """Rationales sampled per item; the one after which its score is likeliest is kept."""
    temperature: float = 1.0
    """Sampling temperature of the rationales."""
    shard_items: int = Field(64, ge=1)
    """Items per shard of rationales, the unit of checkpointing."""
    score_weight: float = 1.0
    """Weight of the score's loss; that of the rationale's tokens has weight 1."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens."""


def run(config: Config) -> None:
    """Write teacher/, chains.parquet and history.jsonl.

    Raises:
        UserError: no training item with an image, or an input is missing.
    """
    items = shared.training_items()
    base, store = shared.BASES / config.base, ImageStore(*shared.IMAGES)
    sources = {"base": base, "writer": WRITER, "items": shared.ITEMS_FILE}
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_rewarddance", config, [*sources.values(), *shared.IMAGES])
    written = write_chains(config, items, store, checkpoint)
    history: History = []
    if config.steps:
        data = read_chains(backbone, items, written, store)
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        for step in supervised_steps(
            backbone, "train_rewarddance", len(data.prompts), checkpoint, history, **config.loop
        ):
            step.update(
                chain_loss(
                    backbone, data, config.score_weight, config.mass_weight, part, step.batch
                )
                for part in step.parts()
            )
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    shared.save_trained(
        OUTPUT / "teacher", config, backbone, history, checkpoint, sources, chains=written
    )


def write_chains(
    config: Config, items: pd.DataFrame, store: ImageStore, checkpoint: Checkpoint
) -> pd.DataFrame:
    """The rationale of each item; processes share the work by shards."""
    starts = range(0, len(items), config.shard_items)
    names = {start: f"chains{index:05d}" for index, start in enumerate(starts)}
    state = processes()
    own = list(starts)[state.process_index :: state.num_processes]
    own = [start for start in own if checkpoint.load(names[start]) is None]
    if own:
        writer = load_backbone(WRITER, config.dtype)
        writer.network.to(pick_device())
        for start in track(own, "train_rewarddance chains"):
            shard = items.iloc[start : start + config.shard_items]
            with precision():
                rows = chains_of(writer, config, shard, store)
            checkpoint.save(names[start], {"rows": rows}, by_any=True)
    wait()
    shards = [checkpoint.load(name) or {} for name in names.values()]
    return pd.DataFrame([row for shard in shards for row in shard["rows"]])


def chains_of(
    writer: Backbone, config: Config, items: pd.DataFrame, store: ImageStore
) -> list[dict]:
    """Rows of chains.parquet for some items."""
    keys = list(zip(items["item_id"], items["dimension"], strict=True))
    found = best_chains(
        writer,
        prompts=list(items["prompt"]),
        images=[writer.pixels.prepare(store.pixels(i)) for i in items["image_id"]],
        dimensions=[writer.rubric.names.index(name) for name in items["dimension"]],
        scores=list(items["score"]),
        target_BS=torch.tensor(np.stack(items["histogram"].tolist())),
        num_chains=config.num_chains,
        seeds=[query_seed(config.seed, item, dimension) for item, dimension in keys],
        temperature=config.temperature,
    )
    return [
        {"item_id": item, "dimension": dimension, "trace": trace, "likelihood": likelihood}
        for (item, dimension), trace, likelihood in zip(keys, *found, strict=True)
    ]


def read_chains(
    backbone: Backbone, items: pd.DataFrame, written: pd.DataFrame, store: ImageStore
) -> Chains:
    """Training data; a rationale that reached its length limit is given a closing token."""
    images = {i: backbone.pixels.prepare(store.pixels(i)) for i in items["image_id"].unique()}
    return Chains(
        prompts=list(items["prompt"]),
        images=[images[i] for i in items["image_id"]],
        dimensions=[backbone.rubric.names.index(name) for name in items["dimension"]],
        tokens=[backbone.chat.trace(text) for text in written["trace"]],
        target_NS=torch.tensor(np.stack(items["histogram"].tolist())).float(),
    )
