"""train_opd: teacher, pool, student base -> a student that reasons (method, section 6).

On-policy distillation: the student samples, the teacher says how likely it finds each token.
Shapes: B images, G traces of an image, N = B x G rows, T tokens.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.opd import distillation_advantages, opd_loss
from zreward_core.models.backbone import Backbone, TrainedWeights, load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts, join_rollouts, sample_rollouts
from zreward_core.models.traces import TraceLogProbs, trace_log_probs
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import CANDIDATES, read_table
from zreward_core.training.loops import History, OnPolicyConfig, Part, on_policy, sample_together

OUTPUT = Path("data/train_opd")
BASE, TEACHER = Path("data/base_vlm/student"), Path("data/train_gdso/teacher")
POOL, IMAGES = Path("data/candidates/pool.parquet"), Path("data/candidates/images")


class Config(OnPolicyConfig, TrainedWeights):
    """On-policy distillation of the teacher's reasoning (equations 18 and 19)."""

    images_per_step: int = Field(16, ge=1)
    """Images of the pool a batch, each with one dimension."""
    group_size: int = Field(4, ge=1)
    """Traces an image."""
    micro_batch_images: int = Field(16, ge=1)
    """Images a forward pass; gradients add up to those of the whole batch."""
    temperature: float = 1.0
    """Sampling temperature of the traces; all log-probabilities are at it."""


@dataclass
class Distilled:
    """Images with the student's rollouts and the teacher's word on each token."""

    prompts: list[str]
    images: list[torch.Tensor]
    dimensions: list[int]
    rollouts: Rollouts
    advantages: dict[int, torch.Tensor]
    """Equation 18 for the parts of the batch, each by its first image: filled at the first
    update, while the student is still the policy that sampled."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: the pool is empty, the teacher reads other tokens, or an input is missing.
    """
    pool = read_table(POOL, CANDIDATES)
    if pool.empty:
        raise UserError(f"{POOL} is empty: give candidates images or prompts for the pool")
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_opd", config, [BASE, TEACHER, POOL, IMAGES])
    history: History = []
    if config.steps:
        history = train(backbone, load_teacher(backbone, config), config, pool, checkpoint)
        backbone = unsharded(backbone, lambda: open_backbone(BASE, config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_opd",
                "base": tree_hash(BASE),
                "teacher": tree_hash(TEACHER),
                "pool": tree_hash(POOL),
            }
            backbone.save(folder / "student", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def load_teacher(student: Backbone, config: Config) -> Backbone:
    """The frozen teacher, which must read the student's tokens as its own.

    Raises:
        UserError: it does not.
    """
    teacher = load_backbone(TEACHER, config.dtype)
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise UserError(f"{TEACHER} and {BASE} have different tokens: take bases of one family")
    for parameter in teacher.network.parameters():
        parameter.requires_grad_(False)
    place(teacher.network)
    return teacher


def train(
    backbone: Backbone,
    teacher: Backbone,
    config: Config,
    pool: pd.DataFrame,
    checkpoint: Checkpoint,
) -> History:
    """Sample from the student, score its tokens by the teacher, update."""
    require_divisible(config.images_per_step, "train_opd.images_per_step")
    backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
    place(backbone.network)
    return on_policy(
        backbone,
        config,
        "train_opd",
        (config.images_per_step, config.micro_batch_images),
        partial(sample, backbone, config, pool, ImageStore(IMAGES)),
        partial(loss_of, backbone, teacher, config),
        checkpoint,
    )


def sample(
    backbone: Backbone,
    config: Config,
    pool: pd.DataFrame,
    store: ImageStore,
    rng: np.random.Generator,
) -> tuple[Distilled, dict[str, float]]:
    """Images of the pool with rollouts of the student, every dimension as often as any other."""
    drawn = pool.iloc[rng.integers(len(pool), size=config.images_per_step)]
    prompts = list(drawn["prompt"])
    images = [backbone.pixels.prepare(store.pixels(i)) for i in drawn["image_id"]]
    number = len(backbone.rubric.names)
    first = int(rng.integers(number))
    dimensions = [(first + b) % number for b in range(len(drawn))]
    seeds = rng.integers(2**48, size=len(drawn)).tolist()

    def sample_part(own: range) -> Rollouts:
        part = slice(own.start, own.stop)
        return sample_rollouts(
            backbone,
            prompts[part],
            images[part],
            list(enumerate(dimensions[part])),
            config.group_size,
            backbone.prompt.max_trace_tokens,
            seeds[part],
            config.temperature,
        )

    rollouts = join_rollouts(sample_together(backbone.network, len(drawn), sample_part))
    said = torch.isin(rollouts.answers, backbone.label_ids.cpu())
    return Distilled(prompts, images, dimensions, rollouts, {}), {
        "trace/length": float(np.mean([float(len(tokens)) for tokens in rollouts.tokens])),
        "trace/closed": rollouts.closed.float().mean().item(),
        "score/mass": rollouts.mass.mean().item(),
        "score/readable": said.float().mean().item(),
    }


def loss_of(
    backbone: Backbone,
    teacher: Backbone,
    config: Config,
    batch: Distilled,
    chosen: range,
    _: list[torch.Tensor],
) -> Part:
    """Equation 19 for some images of a batch, the sampled score token among the tokens."""
    part = slice(chosen.start, chosen.stop)
    rows = slice(part.start * config.group_size, part.stop * config.group_size)

    def read(model: Backbone) -> TraceLogProbs:
        with precision():
            return trace_log_probs(
                model,
                batch.prompts[part],
                batch.images[part],
                batch.dimensions[part],
                batch.rollouts.tokens[rows],
                config.temperature,
                batch.rollouts.answers[rows],
            )

    found = read(backbone)
    if chosen.start not in batch.advantages:
        with torch.no_grad():
            taught_NT = read(teacher).log_probs_NT
        advantages = distillation_advantages(taught_NT, found.log_probs_NT)
        batch.advantages[chosen.start] = advantages
    advantages_NT = batch.advantages[chosen.start]
    num_outputs = len(batch.rollouts.tokens)
    loss = opd_loss(found.log_probs_NT, advantages_NT, found.mask_NT, num_outputs)
    behind = -advantages_NT.masked_fill(~found.mask_NT, 0.0).sum().item() / num_outputs
    return loss, {"loss/total": loss.item(), "policy/reverse_kl": behind}
