"""The supervised loop: epochs over items, with an optimizer, a learning-rate schedule, checkpoints.

A step's batch is derived from (seed, step), so a resumed run equals an uninterrupted one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zreward_core.config import UserError
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.progress import track
from zreward_core.runtime.sharding import is_sharding, require_divisible
from zreward_core.training.optimizers import make_optimizers, set_rates
from zreward_core.training.updates import (
    History,
    Step,
    load_training_state,
    own_parts,
    training_state,
)

LOG_EVERY = 5
"""Steps between rows of the history."""
WARMUP_SHARE = 0.05
"""Share of the steps over which the learning rate rises."""


@dataclass(kw_only=True)
class BatchStep(Step):
    """One batch of items, and its update."""

    batch: list[int]
    """Indices of the items of the whole batch."""
    micro_batch_size: int

    def parts(self) -> Iterator[list[int]]:
        """This process's micro-batches, as indices of items."""
        for part in own_parts(len(self.batch), self.micro_batch_size):
            yield [self.batch[i] for i in part]


def supervised_steps(
    backbone: Any,
    name: str,
    num_items: int,
    checkpoint: Checkpoint,
    history: History,
    *,
    seed: int,
    steps: int,
    batch_size: int,
    micro_batch_size: int,
    learning_rate: float,
    optimizer: str,
    weight_decay: float,
    max_grad_norm: float,
    checkpoint_every: int,
) -> Iterator[BatchStep]:
    """Yield the steps of epochs over items; log and checkpoint each after the stage has used it.

    Args:
        backbone: open for training and placed; its trainable weights are changed.
        name: section of params.yaml, for messages and the progress bar.
        num_items: the items have the indices 0 to num_items - 1.
        history: rows are appended; after resumption it starts with the rows of the checkpoint.
        micro_batch_size: items of a forward pass.
        learning_rate: peak of a one-cycle schedule.
        optimizer: "adamw" or "muon".
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        checkpoint_every: steps between checkpoints.

    Raises:
        UserError: muon is combined with FSDP, or FSDP can't divide the batch evenly.
    """
    require_divisible(min(batch_size, num_items), f"{name}.batch_size")
    if optimizer == "muon" and is_sharding():
        raise UserError(
            f"params.yaml: '{name}.optimizer' is muon, which needs whole weight matrices: use"
            " adamw with FSDP"
        )
    optimizers = _optimizers(backbone, optimizer, learning_rate, weight_decay)
    schedules = [_one_cycle(each, steps) for each in optimizers]
    start = 0
    if state := checkpoint.load("state"):
        load_training_state(backbone, optimizers, state)
        for schedule, saved in zip(schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        history[:], start = state["history"], state["step"]
    for index in track(range(start, steps), name, steps, start):
        step = BatchStep(
            place=f"{name}, step {index}",
            backbone=backbone,
            optimizers=optimizers,
            max_grad_norm=max_grad_norm,
            batch=epoch_batch(num_items, batch_size, seed, index),
            micro_batch_size=micro_batch_size,
        )
        yield step
        for schedule in schedules:
            schedule.step()
        if index % LOG_EVERY == 0:
            history.append(step.row(index))
        if (index + 1) % checkpoint_every == 0:
            state = {
                "step": index + 1,
                **training_state(backbone, optimizers),
                "schedules": [schedule.state_dict() for schedule in schedules],
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()


def epoch_batch(num_items: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices of a step's batch: every epoch is a new permutation, cut into batches."""
    batch_size = min(batch_size, num_items)
    batches = num_items // batch_size
    order = np.random.default_rng([seed, step // batches]).permutation(num_items)
    begin = step % batches * batch_size
    return order[begin : begin + batch_size].tolist()


def _optimizers(
    backbone: Any, kind: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    if kind == "muon":
        optimizers = make_optimizers(backbone.network, learning_rate)
        set_rates(optimizers, learning_rate)
        return optimizers
    return [torch.optim.AdamW(backbone.trainable(), lr=learning_rate, weight_decay=weight_decay)]


def _one_cycle(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=max(steps, 2),
        pct_start=WARMUP_SHARE,
        cycle_momentum=False,
    )
