"""Optimizer updates and training state, shared by the supervised and the on-policy loop."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from zreward_core.runtime.distributed import add_gradients, add_up, own_part
from zreward_core.runtime.sharding import full_tensors, restore, shard_like

Part = tuple[torch.Tensor, dict[str, float]]
"""Loss of a micro-batch, divided by the counts of the whole batch, and metrics that add up."""
History = list[dict[str, float]]
"""Metrics of each logged step."""
Reference = list[torch.Tensor]
"""Trainable weights of the reference policy."""


@dataclass(kw_only=True)
class Step:
    """One training step: the loop prepares it, the stage computes its losses."""

    backbone: Any
    optimizers: list[torch.optim.Optimizer]
    max_grad_norm: float
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the whole batch, recorded with those of the last update."""
    sums: dict[str, float] = field(default_factory=dict)
    """Metrics of this process's micro-batches, summed; those of the last update."""
    grad_norm: float = 0.0

    def update(self, parts: Iterable[Part]) -> None:
        """Make one optimizer update on a batch, given as this process's micro-batches."""
        self.sums, self.grad_norm = update(
            self.backbone, self.optimizers, parts, self.max_grad_norm
        )

    def row(self, index: int) -> dict[str, float]:
        """Row of the history; every process must call it."""
        return {"step": index} | self.metrics | add_up(self.sums) | {"grad_norm": self.grad_norm}


def update(
    backbone: Any,
    optimizers: list[torch.optim.Optimizer],
    parts: Iterable[Part],
    max_grad_norm: float,
) -> tuple[dict[str, float], float]:
    """Make one optimizer update on a batch, each process with its own micro-batches.

    Returns:
        the summed metrics of this process's micro-batches, and the gradient norm before clipping.
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
    """This process's share of ``count`` inputs, in micro-batches of at most ``size``."""
    own = own_part(count)
    for start in range(own.start, own.stop, size):
        yield range(start, min(start + size, own.stop))


def training_state(backbone: Any, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Weights and optimizer state for ``load_training_state``; every process must call it."""
    return {
        "weights": full_tensors(backbone.snapshot()),
        "optimizers": [full_tensors(optimizer.state_dict()) for optimizer in optimizers],
    }


def load_training_state(
    backbone: Any, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]
) -> None:
    """Restore weights and optimizer state."""
    for parameter, value in zip(backbone.trainable(), state["weights"], strict=True):
        parameter.data.copy_(shard_like(value, parameter))
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        restore(optimizer, saved)
