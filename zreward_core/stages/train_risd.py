"""train_risd: labels, student base -> student (method, section 5)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.config import StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbones import Backbone, LoraSettings, load_backbone
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.models.scorer import student_scores
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import (
    add_gradients,
    add_up,
    own_part,
    precision,
)
from zreward_core.runtime.optimizers import make_optimizers, set_rates
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track, write_history
from zreward_core.runtime.sharding import (
    even,
    is_sharding,
    place,
    restore,
    spread,
    unsharded,
    whole,
)
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import LABELS, read_table

logger = logging.getLogger(__name__)
OUTPUT = Path("data/train_risd")
BASE = Path("data/base_vlm/student")
LABELS_FILE = Path("data/label/labels.parquet")
IMAGES = Path("data/candidates/images")


class Config(StageConfig):
    """Reasoning-Internalized Score Distillation of the student."""

    steps: int = Field(1000, ge=0)
    """Optimizer steps; 0 leaves the base as it is."""
    batch_size: int = Field(64, ge=1)
    """Pictures a step, each with all its labelled dimensions."""
    micro_batch_size: int = Field(64, ge=1)
    """Pictures a forward pass; gradients add up to those of the whole batch."""
    learning_rate: float = 1e-3
    """Peak learning rate; it warms up and falls along a cosine."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon makes more of few steps where all weights of a tiny model are trained in one piece."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""
    lora: LoraSettings | None = None
    """Train low-rank updates instead of all weights."""
    dtype: str = "float32"
    """Torch dtype of the weights."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between checkpoints."""


@dataclass
class Labelled:
    """N labelled pictures: D dimensions, S levels."""

    prompts: list[str]
    """N prompts."""
    images: list[torch.Tensor]
    """N resized pictures."""
    probs_NDS: torch.Tensor
    """The teacher's distributions."""
    mask_ND: torch.Tensor
    """Which dimensions are labelled."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: there is no label, or an input is missing.
    """
    labels = read_table(LABELS_FILE, LABELS)
    if labels.empty:
        raise UserError(f"{LABELS_FILE} is empty: nothing to distil")
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_risd", config, [BASE, LABELS_FILE, IMAGES])
    history: list[dict[str, float]] = []
    if config.steps:
        history = train(backbone, config, load_labelled(backbone, labels), checkpoint)
        backbone = unsharded(backbone, lambda: opened(config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_risd",
                "base": tree_hash(BASE),
                "labels": tree_hash(LABELS_FILE),
            }
            backbone.save(folder / "student", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def opened(config: Config) -> Backbone:
    """The base with its weights, or low-rank updates of them, open for training."""
    backbone = load_backbone(BASE, config.dtype)
    backbone.train_mode(config.lora)
    return backbone


def load_labelled(backbone: Backbone, labels: pd.DataFrame) -> Labelled:
    """Pictures with their label distributions, in the order of the rubric's dimensions."""
    names = backbone.rubric.names
    first = labels.drop_duplicates("item_id").set_index("item_id")
    position = {item: n for n, item in enumerate(first.index)}
    probs = torch.zeros(len(first), len(names), len(backbone.levels))
    mask = torch.zeros(len(first), len(names), dtype=torch.bool)
    rows = torch.tensor([position[item] for item in labels["item_id"]])
    columns = torch.tensor([names.index(name) for name in labels["dimension"]])
    probs[rows, columns] = torch.tensor(np.stack(labels["probs"].tolist())).float()
    mask[rows, columns] = True
    store = ImageStore(IMAGES)
    images = [backbone.pixels.prepare(store.pixels(i)) for i in first["image_id"]]
    return Labelled(list(first["prompt"]), images, probs, mask)


def train(
    backbone: Backbone, config: Config, data: Labelled, checkpoint: Checkpoint
) -> list[dict[str, float]]:
    """Minimise equation 15 over the labelled pictures, epoch after epoch."""
    even(min(config.batch_size, len(data.prompts)), "train_risd.batch_size")
    if config.optimizer == "muon" and (config.lora is not None or is_sharding()):
        raise UserError(
            "params.yaml: train_risd.optimizer muon trains whole weights; adamw takes lora or FSDP"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # low-rank updates start at random
        backbone.train_mode(config.lora, config.gradient_checkpointing)
    place(backbone.network)
    optimizers, schedules = make_schedules(backbone, config)
    history: list[dict[str, float]] = []
    start = 0
    if state := checkpoint.load("state"):
        for parameter, value in zip(backbone.trainable(), state["weights"], strict=True):
            parameter.data.copy_(spread(value, parameter))
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            restore(optimizer, saved)
        for schedule, saved in zip(schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        history, start = state["history"], state["step"]
    for step in track(range(start, config.steps), "train_risd", config.steps, start):
        chosen = epoch_batch(len(data.prompts), config.batch_size, config.seed, step)
        sums = {"loss/total": 0.0, "score/error": 0.0}
        num_items = float(data.mask_ND[chosen].sum())
        own = own_part(len(chosen))
        for begin in range(own.start, own.stop, config.micro_batch_size):
            part = chosen[begin : min(begin + config.micro_batch_size, own.stop)]
            loss, mass, error = distil(backbone, data, part, num_items)
            (loss + config.mass_weight * mass).backward()
            sums["loss/total"] += loss.item()
            sums["score/error"] += error
        add_gradients(backbone.trainable())
        norm = torch.nn.utils.clip_grad_norm_(backbone.trainable(), config.max_grad_norm)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 5 == 0:
            history.append({"step": step} | add_up(sums) | {"grad_norm": float(whole(norm))})
        if (step + 1) % config.checkpoint_every == 0:
            state = {
                "step": step + 1,
                "weights": whole(backbone.snapshot()),
                "optimizers": [whole(optimizer.state_dict()) for optimizer in optimizers],
                "schedules": [schedule.state_dict() for schedule in schedules],
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()
    return history


def make_schedules(
    backbone: Backbone, config: Config
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
    """Optimizers of what is trained, and the course of the learning rate of each."""
    if config.optimizer == "muon":
        optimizers = make_optimizers(backbone.network, config.learning_rate)
        set_rates(optimizers, config.learning_rate)
    else:
        decay = config.weight_decay
        optimizers = [
            torch.optim.AdamW(backbone.trainable(), lr=config.learning_rate, weight_decay=decay)
        ]
    schedules: list[torch.optim.lr_scheduler.LRScheduler] = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=max(config.steps, 2),
            pct_start=0.05,
            cycle_momentum=False,
        )
        for optimizer in optimizers
    ]
    return optimizers, schedules


def epoch_batch(num_items: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of a step's batch: every epoch is a new permutation, cut into batches."""
    batch_size = min(batch_size, num_items)
    batches = num_items // batch_size
    order = np.random.default_rng([seed, step // batches]).permutation(num_items)
    begin = step % batches * batch_size
    return order[begin : begin + batch_size].tolist()


def distil(
    backbone: Backbone, data: Labelled, chosen: list[int], num_items: float
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Equation 15 on some pictures, the mass term, and the error of the expected score."""
    prompts, images = [data.prompts[i] for i in chosen], [data.images[i] for i in chosen]
    with precision():
        log_probs_BDS, mass_BD = student_scores(backbone, prompts, images)
    target_BDS = data.probs_NDS[chosen].to(log_probs_BDS)
    mask_BD = data.mask_ND[chosen].to(log_probs_BDS.device)
    loss = risd_loss(target_BDS, log_probs_BDS, mask_BD, num_items)
    gap = expected_score(log_probs_BDS.detach().exp() - target_BDS, backbone.levels)
    error = ((gap.abs() * mask_BD).sum() / num_items).item()
    return loss, mass_loss(mass_BD[mask_BD], num_items), error
