"""The supervised loop: epochs over items, with an optimizer, a learning-rate schedule, checkpoints.

A step's batch is derived from (seed, step), so a resumed run equals an uninterrupted one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zreward_core.config import UserError
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.progress import publish, say_metrics, track
from zreward_core.runtime.sharding import is_sharding, require_divisible
from zreward_core.training.optimizers import make_optimizers, set_rates
from zreward_core.training.updates import (
    History,
    Step,
    Validator,
    load_training_state,
    own_micro_batches,
    place_of,
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
    following: list[int]
    """Indices of the next batch."""
    micro_batch_size: int
    prefetch: Callable[[list[int]], None]

    def parts(self) -> Iterator[list[int]]:
        """This process's micro-batches, as indices of items; each starts loading its successor."""
        parts = [
            [batch[i] for i in part]
            for batch in (self.batch, self.following)
            for part in own_micro_batches(len(batch), self.micro_batch_size)
        ]
        for index in range(len(parts) // 2):
            self.prefetch(parts[index + 1])
            yield parts[index]


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
    prefetch: Callable[[list[int]], None] = lambda indices: None,
    validation: Validator | None = None,
) -> Iterator[BatchStep]:
    """Yield the steps of epochs over items; log and checkpoint each after the stage has used it.

    The last step yielded examines the trained weights (``Step.after_last``).

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
        prefetch: called with the indices of the micro-batch after the one that is computed.
        validation: called after each step, before it is logged.

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
    publish(name, history, anew=True)

    def prepared(index: int) -> BatchStep:
        return BatchStep(
            index=index,
            place=place_of(name, index, steps),
            backbone=backbone,
            optimizers=optimizers,
            max_grad_norm=max_grad_norm,
            batch=epoch_batch(num_items, batch_size, seed, index),
            following=epoch_batch(num_items, batch_size, seed, index + 1),
            prefetch=prefetch,
            micro_batch_size=micro_batch_size,
            after_last=index == steps,
        )

    for index in track(range(start, steps), name, steps, start):
        step = prepared(index)
        yield step
        if validation is not None:
            validation.after(step)
        for schedule in schedules:
            schedule.step()
        if index % LOG_EVERY == 0 or step.metrics:
            history.append(step.row(index))
            publish(name, history[-1:])
        if (index + 1) % checkpoint_every == 0:
            state = {
                "step": index + 1,
                **training_state(backbone, optimizers),
                "schedules": [schedule.state_dict() for schedule in schedules],
                "history": history,
            }
            checkpoint.save("state", state)
    say_metrics(name, history)
    yield prepared(steps)
    if validation is not None:
        validation.finish()
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
