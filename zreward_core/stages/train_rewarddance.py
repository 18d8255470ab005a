"""train_rewarddance: items, bases -> a reasoner taught by reasons found afterwards.

RewardDance (arXiv:2509.08826), as Z-Reward compares with it (method, section 6): supervised
fine-tuning on reasoning that a stronger model writes once it knows the score, then the score.
Shapes: B items of a batch's part, T tokens, S levels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.sft import score_cross_entropy, token_cross_entropy
from zreward_core.models.backbone import Backbone, TrainedWeights, load_backbone, open_backbone
from zreward_core.models.rollouts import sample_rollouts
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.models.teacher import query_seed
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import precision, processes, wait
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track, write_history
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_table
from zreward_core.training.loops import History, Part, SupervisedConfig, supervised

OUTPUT = Path("data/train_rewarddance")
BASES, WRITER = Path("data/base_vlm"), Path("data/base_vlm/teacher")
ITEMS_FILE = Path("data/validate/items.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(SupervisedConfig, TrainedWeights):
    """Supervised fine-tuning on pseudo reasoning, then the score."""

    base: Literal["teacher", "student"] = "teacher"
    """Which base is trained; the teacher's base writes the reasoning in any case."""
    num_chains: int = Field(4, ge=1)
    """Chains written for an item; the one after which its score is likeliest is kept."""
    temperature: float = 1.0
    """Sampling temperature of the chains."""
    shard_items: int = Field(64, ge=1)
    """Items that are written for side by side; each such shard is a checkpoint."""
    score_weight: float = 1.0
    """Weight of the score's loss beside that of the chain's tokens."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens."""


@dataclass
class Chains:
    """N annotated items with the reasoning they are taught by."""

    prompts: list[str]
    images: list[torch.Tensor]
    dimensions: list[int]
    tokens: list[list[int]]
    """Chains as the trained model reads them, with the closing token."""
    target_NS: torch.Tensor
    """Histograms of the annotated scores."""


def run(config: Config) -> None:
    """Write teacher/, chains.parquet and history.jsonl.

    Raises:
        UserError: no training item with an image, or an input is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[(items["split"] == "train") & items["image_id"].notna()]
    if items.empty:
        raise UserError(f"{ITEMS_FILE} has no training item with an image: annotate some")
    base = BASES / config.base
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_rewarddance", config, [base, WRITER, ITEMS_FILE, *IMAGES])
    store = ImageStore(*IMAGES)
    written = write_chains(config, items, store, checkpoint)
    history: History = []
    if config.steps:
        history = train(backbone, config, read_chains(backbone, items, written, store), checkpoint)
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_rewarddance",
                "base": tree_hash(base),
                "writer": tree_hash(WRITER),
                "items": tree_hash(ITEMS_FILE),
            }
            backbone.save(folder / "teacher", lineage)
            written.to_parquet(folder / "chains.parquet", index=False)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def write_chains(
    config: Config, items: pd.DataFrame, store: ImageStore, checkpoint: Checkpoint
) -> pd.DataFrame:
    """For each item the reasoning kept, and the probability of its score after it.

    Shards are divided over the processes.
    """
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
    """Reasons for annotated scores, written by a model that is shown them.

    The model is asked twice: it reads the score as its own first answer, given without a word, and
    then the same question again. So nothing but the chat format it knows is needed of it. Which
    chain is kept is decided without that hint: the one after which the score is likeliest.
    """
    chat, levels = writer.chat, np.asarray(writer.rubric.levels)
    prompts = list(items["prompt"])
    images = [writer.pixels.prepare(store.pixels(i)) for i in items["image_id"]]
    dimensions = [writer.rubric.names.index(name) for name in items["dimension"]]
    asked = []
    for score, dimension in zip(items["score"], dimensions, strict=True):
        label = chat.label_ids[int(np.abs(levels - score).argmin())]
        question = chat.questions[dimension]
        asked.append([*question, *chat.closing, label, *chat.next_turn, *question])
    keys = zip(items["item_id"], items["dimension"], strict=True)
    chains = sample_rollouts(
        writer,
        prompts,
        images,
        list(enumerate(dimensions)),
        config.num_chains,
        writer.prompt.max_trace_tokens,
        [query_seed(config.seed, item, dimension) for item, dimension in keys],
        config.temperature,
        asked,
    ).tokens
    with torch.no_grad():
        scores_NS = trace_log_probs(writer, prompts, images, dimensions, chains).scores_NS
    target_BS = torch.tensor(np.stack(items["histogram"].tolist())).to(scores_NS)
    likely_BG = (scores_NS.exp().unflatten(0, (len(items), -1)) * target_BS[:, None]).sum(-1)
    best = likely_BG.argmax(1).tolist()
    return [
        {
            "item_id": row.item_id,
            "dimension": row.dimension,
            "trace": chat.text(chains[n * config.num_chains + best[n]]),
            "likelihood": likely_BG[n, best[n]].item(),
        }
        for n, row in enumerate(items.itertuples())
    ]


def read_chains(
    backbone: Backbone, items: pd.DataFrame, written: pd.DataFrame, store: ImageStore
) -> Chains:
    """What is trained on; a chain that reached its limit is taught with an end."""
    images = {i: backbone.pixels.prepare(store.pixels(i)) for i in items["image_id"].unique()}
    return Chains(
        prompts=list(items["prompt"]),
        images=[images[i] for i in items["image_id"]],
        dimensions=[backbone.rubric.names.index(name) for name in items["dimension"]],
        tokens=[backbone.chat.trace(text) for text in written["trace"]],
        target_NS=torch.tensor(np.stack(items["histogram"].tolist())).float(),
    )


def train(backbone: Backbone, config: Config, data: Chains, checkpoint: Checkpoint) -> History:
    """Minimise the loss of chains and scores, epoch after epoch."""
    require_divisible(min(config.batch_size, len(data.prompts)), "train_rewarddance.batch_size")
    backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
    place(backbone.network)
    return supervised(
        backbone,
        config,
        "train_rewarddance",
        len(data.prompts),
        partial(loss_of, backbone, config, data),
        checkpoint,
    )


def loss_of(
    backbone: Backbone, config: Config, data: Chains, part: list[int], batch: list[int]
) -> Part:
    """Likelihood of the chains' tokens and of the scores after them, on part of a batch."""
    with precision():
        found = trace_log_probs(
            backbone,
            [data.prompts[i] for i in part],
            [data.images[i] for i in part],
            [data.dimensions[i] for i in part],
            [data.tokens[i] for i in part],
        )
    num_tokens = sum(len(data.tokens[i]) for i in batch)
    chains = token_cross_entropy(found.log_probs_NT, found.mask_NT, num_tokens)
    target_BS = data.target_NS[part].to(found.scores_NS)
    everything = torch.ones(len(part), dtype=torch.bool, device=target_BS.device)
    score = score_cross_entropy(found.scores_NS, target_BS, everything, len(batch))
    loss = chains + config.score_weight * score
    loss = loss + config.mass_weight * mass_loss(found.mass_N, len(batch))
    gap = expected_score(found.scores_NS.detach().exp() - target_BS, backbone.levels)
    return loss, {
        "loss/total": loss.item(),
        "loss/chain": chains.item(),
        "loss/score": score.item(),
        "score/error": gap.abs().sum().item() / len(batch),
    }
