"""What a process holds and computes, measured in a child process and extrapolated over layers."""

import functools
import logging
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import BaseModel

from zreward_core.commands.plan.backbone import DEPTHS

logger = logging.getLogger(__name__)
ATTEMPTS = 3
"""Processes in which a measurement is made until one ends without a signal."""


@dataclass(frozen=True)
class Use:
    """What one process holds at its peak, in bytes, and computes."""

    weights: float = 0
    """Frozen weights, or all where none are trained."""
    adapters: float = 0
    """Trained weights."""
    optimizer: float = 0
    """State of the optimizer."""
    activations: float = 0
    """Everything allocated during a forward, or forward and backward, gradients included."""
    caches: float = 0
    """Keys, values and recurrent states of rollouts."""
    engine: float = 0
    """Reserved on the same GPU by a rollout engine."""
    available: float = 0
    """Bytes there are for it; 0: a GPU's."""
    operations: float = 0
    """Floating-point operations of one call."""

    @property
    def total(self) -> float:
        """Bytes in all."""
        held = self.weights + self.adapters + self.optimizer + self.activations + self.caches
        return held + self.engine


def cached(function: Any) -> Any:
    """A measurement that is made once for the same blueprints and settings, in a child process.

    Its fake tensors are then gone with the process, and a fault in them does not end the plan.
    """
    found: dict[Any, Any] = {}

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        key = tuple(one.model_dump_json() if isinstance(one, BaseModel) else one for one in args)
        if key not in found:
            found[key] = isolated(lambda: function(*args))
        return found[key]

    return called


def isolated(call: Callable[[], Any]) -> Any:
    """The result of a call in a forked process; it is made again if a signal ends the process."""
    for _ in range(ATTEMPTS):
        found, code = _forked(call)
        if code == 0:
            return found
        if code > 0:
            break
        logger.warning("a measurement ended by signal %d", -code)
    raise RuntimeError(f"a measurement ended with exit code {code}")


def _forked(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of a call in a forked process, and its exit code."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def measure() -> None:
        sender.send(call())
        # Without clean-up: such a process once ended with a corrupted heap, cause unknown.
        os._exit(0)

    process = context.Process(target=measure)
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = None
    process.join()
    assert process.exitcode is not None
    return found, process.exitcode


def extrapolated(num_layers: int, measure: Callable[[int], Use]) -> Use:
    """Use at a number of layers, from that at the two depths of ``DEPTHS``; exact below them."""
    if num_layers <= DEPTHS[1]:
        return measure(num_layers)
    low, high = (measure(depth) for depth in DEPTHS)
    factor = (num_layers - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])
    values = {
        field.name: getattr(low, field.name)
        + factor * (getattr(high, field.name) - getattr(low, field.name))
        for field in fields(Use)
    }
    return Use(**values)


def sharded(use: Use, share: float, gathered: float) -> Use:
    """Use with weights and optimizer state sharded over processes.

    Args:
        share: of these, which a process has on its GPU; 0 if they are on the host.
        gathered: bytes of the weights that are whole at a time.
    """
    return replace(
        use,
        weights=use.weights * share,
        adapters=use.adapters * share,
        optimizer=use.optimizer * share,
        activations=use.activations + gathered,
    )
