"""train_opd: teacher, pool, student base -> a student that reasons.

On-policy distillation (Z-Reward, arXiv:2606.09076; equation numbers in parentheses): the student
samples, and the teacher's log-probabilities of the sampled tokens are the training signal.
Shapes: B images, G outputs of an image, N = B x G outputs, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from zreward_core.config import Count, UserError
from zreward_core.images import ImageStore
from zreward_core.losses.opd import distillation_advantages, opd_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import own_part, precision
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.schemas import CANDIDATES, read_table
from zreward_core.stages import _training as shared
from zreward_core.stages._engine import rollout_engine
from zreward_core.stages._validation import Validated, Validation
from zreward_core.training.images import PreparedImages
from zreward_core.training.on_policy import on_policy_steps
from zreward_core.training.rollouts import importance_weights, roll_out, rollout_metrics
from zreward_core.training.updates import History, LossAndMetrics, own_micro_batches

OUTPUT = Path("data/train_opd")
BASE, TEACHER = Path("data/base_vlm/student"), Path("data/train_gdso/teacher")
POOL, IMAGES = Path("data/candidates/pool.parquet"), Path("data/candidates/images")


class Config(shared.OnPolicyConfig, Validated):
    """On-policy distillation of the teacher's reasoning (equations 18 and 19)."""

    images_per_step: Count = 16
    """Images of the pool per batch, each with one dimension."""
    group_size: Count = 4
    """Outputs of each image."""
    micro_batch_images: Count = 16
    """Images per forward pass; gradients accumulate to those of the whole batch."""


@dataclass
class Batch:
    """Images with the student's rollouts."""

    prompts: list[str]
    images: Sequence[torch.Tensor]
    dimensions: list[int]
    rollouts: Rollouts
    advantages: dict[int, torch.Tensor] = field(default_factory=dict)
    """Equation 18 of each micro-batch, by its first image: filled at the first update, when the
    student is still the policy that sampled (pi_old)."""


def run(config: Config) -> None:
    """Write student/ and history.jsonl.

    Raises:
        UserError: the pool is empty, teacher and student have different tokenizers, or an input is
            missing.
    """
    pool = read_table(POOL, CANDIDATES)
    if pool.empty:
        raise UserError(f"{POOL} is empty: give candidates images or prompts for the pool")
    sources = {"base": BASE, "teacher": TEACHER, "pool": POOL}
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_opd", config, sources.values())
    history: History = []
    if config.steps:
        require_divisible(config.images_per_step, "train_opd.images_per_step")
        teacher = load_teacher(backbone, config)
        images = PreparedImages(backbone.pixels, ImageStore(IMAGES))
        for model in (backbone, teacher):
            pool = without_long_prompts(model.chat, pool, f"{POOL}, for {model.source}")
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_opd", config, config.seed, checkpoint, reasoning=True
        )
        for step in on_policy_steps(
            backbone,
            "train_opd",
            checkpoint,
            history,
            validation=validation,
            engine=rollout_engine("train_opd", backbone, trains=True),
            **config.loop,
        ):
            batch, step.metrics = sample(backbone, config, pool, images, step.rng)
            following = draw(config, pool, step.next_rng)["image_id"]
            images.prefetch(following.iloc[own_part(len(following))])
            for _ in range(config.updates_per_batch):
                step.update(
                    loss_of(backbone, teacher, config, batch, part)
                    for part in own_micro_batches(config.images_per_step, config.micro_batch_images)
                )
        backbone = unsharded(backbone, lambda: open_backbone(BASE, config, config.seed))
    shared.save_trained(OUTPUT / "student", config, backbone, history, checkpoint, sources)


def load_teacher(student: Backbone, config: Config) -> Backbone:
    """Load the frozen teacher.

    Raises:
        UserError: its vocabulary is not the student's.
    """
    teacher = load_backbone(TEACHER, config.dtype)
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise UserError(f"{TEACHER} and {BASE} have different vocabularies: use one model family")
    for parameter in teacher.network.parameters():
        parameter.requires_grad_(False)
    place(teacher.network)
    return teacher


def draw(config: Config, pool: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The images of a step."""
    return pool.iloc[rng.integers(len(pool), size=config.images_per_step)]


def sample(
    backbone: Backbone,
    config: Config,
    pool: pd.DataFrame,
    prepared: PreparedImages,
    rng: np.random.Generator,
) -> tuple[Batch, dict[str, float]]:
    """Draw images of the pool, the dimensions in turn, and roll out; with metrics."""
    drawn = draw(config, pool, rng)
    prompts, images = list(drawn["prompt"]), prepared.several(drawn["image_id"])
    number = len(backbone.rubric.names)
    first = int(rng.integers(number))
    dimensions = [(first + b) % number for b in range(len(drawn))]
    rollouts = roll_out(  # y ~ pi_old
        backbone,
        prompts,
        images,
        dimensions,
        config.group_size,
        config.temperature,
        rng,
        config.rollout_batch_size,
    )
    readable = torch.isin(rollouts.answers, backbone.label_ids.cpu()).float().mean().item()
    metrics = rollout_metrics(rollouts) | {"score/readable": readable}
    return Batch(prompts, images, dimensions, rollouts), metrics


def loss_of(
    backbone: Backbone, teacher: Backbone, config: Config, batch: Batch, part: range
) -> LossAndMetrics:
    """Equation 19 of some images of a batch; the tokens include the sampled score token."""
    images = slice(part.start, part.stop)
    rows = slice(part.start * config.group_size, part.stop * config.group_size)
    inputs = batch.prompts[images], batch.images[images], batch.dimensions[images]
    outputs = batch.rollouts.tokens[rows], config.temperature, batch.rollouts.answers[rows]
    with precision():
        found = trace_log_probs(backbone, *inputs, *outputs)
    if part.start not in batch.advantages:
        with torch.no_grad(), precision():
            teacher_NT = trace_log_probs(teacher, *inputs, *outputs).log_probs_NT
        advantages_NT = distillation_advantages(teacher_NT, found.log_probs_NT)  # A_t (18)
        batch.advantages[part.start] = advantages_NT
    advantages_NT = batch.advantages[part.start]
    num_outputs = len(batch.rollouts.tokens)
    weights_NT = importance_weights(batch.rollouts, rows, found.log_probs_NT)
    loss = opd_loss(  # (19)
        found.log_probs_NT, advantages_NT, found.mask_NT, num_outputs, weights_NT
    )
    kl = -advantages_NT.masked_fill(~found.mask_NT, 0.0).sum().item() / num_outputs
    return loss, {"loss/total": loss.item(), "policy/reverse_kl": kl}
