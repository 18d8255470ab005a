"""Optimizer updates and training state, shared by the supervised and the on-policy loop."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from zreward_core.runtime.checkpoint import require_shapes
from zreward_core.runtime.distributed import add_gradients, add_up, own_part
from zreward_core.runtime.sharding import full_tensors, restore, shard_like
from zreward_core.schemas import require_finite

LossAndMetrics = tuple[torch.Tensor, dict[str, float]]
"""Loss of a micro-batch, divided by the counts of the whole batch, and metrics that add up."""
History = list[dict[str, float]]
"""Metrics of each logged step."""
Reference = list[torch.Tensor]
"""Trainable weights of the reference policy."""
DIVERGED = (
    "training has diverged, so nothing was exported; lower the learning rate of this stage in"
    " params.yaml"
)


def place_of(name: str, index: int, steps: int) -> str:
    """Stage and step, for messages."""
    return f"{name}, step {index}" if index < steps else f"{name}, after its last step"


@dataclass(kw_only=True)
class Step:
    """One training step: the loop prepares it, the stage computes its losses."""

    index: int
    """Number of the step."""
    place: str
    """Stage and number of the step, for messages."""
    backbone: Any
    optimizers: list[torch.optim.Optimizer]
    max_grad_norm: float
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the whole batch, recorded with those of the last update."""
    sums: dict[str, float] = field(default_factory=dict)
    """Metrics of this process's micro-batches, summed; those of the last update."""
    grad_norm: float = 0.0
    after_last: bool = False
    """The weights after the last update are examined: losses are computed, nothing is changed."""

    def update(self, losses: Iterable[LossAndMetrics]) -> None:
        """Make one optimizer update, given the losses of this process's micro-batches.

        Raises:
            NotFinite: a metric of the batch, a loss or the gradient norm is not finite.
        """
        require_finite(self.place, self.metrics, DIVERGED)
        if self.after_last:
            require_finite_losses(self.place, losses)
            return
        self.sums, self.grad_norm = update(
            self.place, self.backbone, self.optimizers, losses, self.max_grad_norm
        )

    def row(self, index: int) -> dict[str, float]:
        """Row of the history; every process must call it."""
        return {"step": index} | self.metrics | add_up(self.sums) | {"grad_norm": self.grad_norm}


class Validator(Protocol):
    """Measures a model on held-out items while it is trained."""

    def after(self, step: Step) -> None:
        """Called after each step; may add to its metrics."""

    def finish(self) -> None:
        """Called after the last step; may restore earlier weights."""


def update(
    place: str,
    backbone: Any,
    optimizers: list[torch.optim.Optimizer],
    losses: Iterable[LossAndMetrics],
    max_grad_norm: float,
) -> tuple[dict[str, float], float]:
    """Make one optimizer update on a batch, each process with its own micro-batches.

    Returns:
        the summed metrics of this process's micro-batches, and the gradient norm before clipping.

    Raises:
        NotFinite: a metric or the norm is not finite; ``place`` names the step in the message.
    """
    sums: dict[str, float] = {}
    for loss, metrics in losses:
        loss.backward()
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums, apply_gradients(place, backbone.trainable(), optimizers, max_grad_norm, sums)


@torch.no_grad()
def require_finite_losses(place: str, losses: Iterable[LossAndMetrics]) -> None:
    """Check the losses of this process's micro-batches without an update.

    An update can make weights so large that they are finite and no loss is.

    Raises:
        NotFinite: a loss or a metric is not finite.
    """
    sums = {"loss": 0.0}
    for loss, metrics in losses:
        for name, value in {**metrics, "loss": loss.item()}.items():
            sums[name] = sums.get(name, 0.0) + value
    require_finite(place, add_up(sums), DIVERGED)


def apply_gradients(
    place: str,
    parameters: Sequence[nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    max_grad_norm: float,
    metrics: Mapping[str, float],
) -> float:
    """Add up the gradients of all processes, clip them, and make one update of the weights.

    Args:
        place: stage and number of the step.
        metrics: losses of the step.

    Returns:
        the gradient norm before clipping.

    Raises:
        NotFinite: a metric or the norm is not finite. The weights have been changed by then (the
            norm is read after the update, so that a GPU is not waited for), and are of no use.
    """
    add_gradients(parameters)
    clipped = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    norm = float(full_tensors(clipped))
    require_finite(place, {**metrics, "grad_norm": norm}, DIVERGED)
    return norm


def own_micro_batches(count: int, size: int) -> Iterator[range]:
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
    """Restore weights and optimizer state.

    Raises:
        UserError: they have the shapes of other weights.
    """
    require_shapes(state["weights"], backbone.trainable())
    for parameter, value in zip(backbone.trainable(), state["weights"], strict=True):
        parameter.data.copy_(shard_like(value, parameter))
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        restore(optimizer, saved)
