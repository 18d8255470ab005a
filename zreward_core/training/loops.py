"""The two loops: supervised, and on-policy (algorithm 1 of Z-Reward, arXiv:2606.09076).

A loop knows steps, optimizers, checkpoints and processes. What is sampled and what its loss is
comes from the stage as functions, so every method is one of these loops and some pure losses.
A step's randomness comes from (seed, step), so a resumed run equals an uninterrupted one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field

from zreward_core.config import StageConfig, UserError
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import add_gradients, add_up, gather, own_part, precision
from zreward_core.runtime.progress import track
from zreward_core.runtime.sharding import full_tensors, gathered, is_sharding, restore, shard_like
from zreward_core.training.optimizers import make_optimizers, set_rates

Part = tuple[torch.Tensor, dict[str, float]]
"""Loss of a part of a batch, divided by the counts of the whole, and metrics that add up."""
History = list[dict[str, float]]
Sampled = TypeVar("Sampled")
Schedules = list[torch.optim.lr_scheduler.LRScheduler]
LOG_EVERY = 5
"""Steps of the supervised loop between rows of its history."""


class SupervisedConfig(StageConfig):
    """What the supervised loop is told."""

    steps: int = Field(1000, ge=0)
    """Optimizer steps; 0 leaves the base as it is."""
    batch_size: int = Field(64, ge=1)
    """Images a step, each with all its labelled dimensions."""
    micro_batch_size: int = Field(64, ge=1)
    """Images a forward pass; gradients add up to those of the whole batch."""
    learning_rate: float = 1e-3
    """Peak learning rate; it warms up and falls along a cosine."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon makes more of few steps where all weights of a tiny model are trained in one piece."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between checkpoints."""


class OnPolicyConfig(StageConfig):
    """What the on-policy loop is told."""

    steps: int = Field(200, ge=0)
    """Batches sampled in all (N x M of algorithm 1); 0 leaves the base as it is."""
    iterations: int = Field(1, ge=1)
    """Outer iterations N; at the start of each the reference policy becomes the policy."""
    updates_per_batch: int = Field(1, ge=1)
    """K_gdso; beyond 1 the later updates are off-policy and nothing corrects for it."""
    learning_rate: float = 1e-4
    """AdamW learning rate, constant."""
    warmup_steps: int = 5
    """Steps over which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    checkpoint_every: int = 25
    """Steps between checkpoints."""


def supervised(
    backbone: Any,
    config: SupervisedConfig,
    name: str,
    num_items: int,
    loss_of: Callable[[list[int], list[int]], Part],
    checkpoint: Checkpoint,
) -> History:
    """Minimise a loss over items, epoch after epoch.

    Args:
        backbone: opened for training and placed; its trainable weights are changed.
        name: of the stage, for the progress bar.
        num_items: the items are 0 to num_items - 1.
        loss_of: takes some items and the whole batch they are of.

    Raises:
        UserError: muon is asked for where not all weights are trained in one piece.
    """
    if config.optimizer == "muon" and (backbone.adapted is not None or is_sharding()):
        raise UserError(
            f"params.yaml: {name}.optimizer muon trains whole weights; adamw takes lora or FSDP"
        )
    optimizers, schedules = make_schedules(backbone, config)
    history: History = []
    start = 0
    if state := checkpoint.load("state"):
        load_weights(backbone, optimizers, state)
        for schedule, saved in zip(schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        history, start = state["history"], state["step"]
    for step in track(range(start, config.steps), name, config.steps, start):
        batch = epoch_batch(num_items, config.batch_size, config.seed, step)
        parts = (
            loss_of([batch[i] for i in part], batch)
            for part in own_parts(len(batch), config.micro_batch_size)
        )
        sums, norm = update(backbone, optimizers, parts, config.max_grad_norm)
        for schedule in schedules:
            schedule.step()
        if step % LOG_EVERY == 0:
            history.append({"step": step} | add_up(sums) | {"grad_norm": norm})
        if (step + 1) % config.checkpoint_every == 0:
            state = {
                "step": step + 1,
                **whole_weights(backbone, optimizers),
                "schedules": [schedule.state_dict() for schedule in schedules],
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()
    return history


def on_policy(
    backbone: Any,
    config: OnPolicyConfig,
    name: str,
    sizes: tuple[int, int],
    sample: Callable[[np.random.Generator], tuple[Sampled, dict[str, float]]],
    loss_of: Callable[[Sampled, range, list[torch.Tensor]], Part],
    checkpoint: Checkpoint,
) -> History:
    """Sample from the policy as it is, then update it on what was sampled.

    Args:
        backbone: opened for training and placed; its trainable weights are changed.
        name: of the stage, for the progress bar.
        sizes: what is sampled at a step (pairs, images), and how many of these go together
            through a forward pass.
        sample: draws, rolls out and rewards a batch, and says its metrics.
        loss_of: takes a batch, which of the sampled things are meant, and the reference weights.
    """
    optimizer = torch.optim.AdamW(
        backbone.trainable(), lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.95)
    )
    reference = backbone.snapshot()
    history: History = []
    start = 0
    if state := checkpoint.load("state"):
        load_weights(backbone, [optimizer], state)
        kept = zip(state["reference"], reference, strict=True)
        reference = [shard_like(value, like) for value, like in kept]
        history, start = state["history"], state["step"]
    steps_an_iteration = -(-config.steps // config.iterations)
    for step in track(range(start, config.steps), name, config.steps, start):
        if step % steps_an_iteration == 0:
            reference = backbone.snapshot()
        sampled, metrics = sample(np.random.default_rng([config.seed, step]))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
        for _ in range(config.updates_per_batch):
            parts = (loss_of(sampled, part, reference) for part in own_parts(*sizes))
            sums, norm = update(backbone, [optimizer], parts, config.max_grad_norm)
            metrics |= add_up(sums) | {"grad_norm": norm}
        history.append({"step": step} | metrics)
        if (step + 1) % config.checkpoint_every == 0:
            state = {
                "step": step + 1,
                **whole_weights(backbone, [optimizer]),
                "reference": full_tensors(reference),
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()
    return history


def sample_together(
    network: torch.nn.Module, count: int, sample: Callable[[range], Sampled]
) -> list[Sampled]:
    """Samples from the policy as it is, of ``count`` things.

    Each process samples for its own part and all get all parts: what is made of them is then what
    one process makes.
    """
    own = own_part(count)
    network.eval()  # with gradient checkpointing a training model keeps no cache
    with gathered(network), precision():
        sampled = [sample(own)] if own else []
    network.train()
    return gather(sampled)


def update(
    backbone: Any,
    optimizers: list[torch.optim.Optimizer],
    parts: Iterable[Part],
    max_grad_norm: float,
) -> tuple[dict[str, float], float]:
    """One optimizer step on a batch, each process with its own parts.

    Returns:
        the sums of its parts' metrics, and the norm of the gradient.
    """
    sums: dict[str, float] = {}
    for loss, metrics in parts:
        loss.backward()
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    add_gradients(backbone.trainable())
    norm = torch.nn.utils.clip_grad_norm_(backbone.trainable(), max_grad_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return sums, float(full_tensors(norm))


def own_parts(count: int, size: int) -> Iterator[range]:
    """This process's part of ``count`` things, ``size`` at a time."""
    own = own_part(count)
    for start in range(own.start, own.stop, size):
        yield range(start, min(start + size, own.stop))


def epoch_batch(num_items: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of a step's batch: every epoch is a new permutation, cut into batches."""
    batch_size = min(batch_size, num_items)
    batches = num_items // batch_size
    order = np.random.default_rng([seed, step // batches]).permutation(num_items)
    begin = step % batches * batch_size
    return order[begin : begin + batch_size].tolist()


def make_schedules(
    backbone: Any, config: SupervisedConfig
) -> tuple[list[torch.optim.Optimizer], Schedules]:
    """Optimizers of what is trained, and the course of the learning rate of each."""
    if config.optimizer == "muon":
        optimizers = make_optimizers(backbone.network, config.learning_rate)
        set_rates(optimizers, config.learning_rate)
    else:
        decay = config.weight_decay
        optimizers = [
            torch.optim.AdamW(backbone.trainable(), lr=config.learning_rate, weight_decay=decay)
        ]
    schedules: Schedules = [
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


def whole_weights(backbone: Any, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """What ``load_weights`` brings back; every process must call it."""
    return {
        "weights": full_tensors(backbone.snapshot()),
        "optimizers": [full_tensors(optimizer.state_dict()) for optimizer in optimizers],
    }


def load_weights(
    backbone: Any, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]
) -> None:
    """Weights and optimizers as they were saved."""
    for parameter, value in zip(backbone.trainable(), state["weights"], strict=True):
        parameter.data.copy_(shard_like(value, parameter))
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        restore(optimizer, saved)
