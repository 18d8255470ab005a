"""What the processes of a stage do together. With one process everything here changes nothing.

Every process draws a step's whole batch from (seed, step), computes its own part, and divides its
sums by the counts of the whole; so the parts' losses and gradients add up to those of one process.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

Value = TypeVar("Value")
PATIENCE = timedelta(hours=2)
"""How long processes wait for one that writes a large checkpoint; a dead one is noticed sooner."""


def processes() -> PartialState:
    """The processes of this stage; the first call joins them as the environment says."""
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    if PartialState._shared_state:
        return PartialState()
    waiting = {"timeout": PATIENCE} if "RANK" in os.environ else {}
    return PartialState(cpu=use_cpu or not torch.accelerator.is_available(), **waiting)


def own_part(count: int) -> range:
    """Which of ``count`` things this process computes."""
    state = processes()
    return part_of(count, state.process_index, state.num_processes)


def part_of(count: int, rank: int, number: int) -> range:
    """Part of process ``rank`` of ``number``: neighbours, as many as any other's, give one."""
    return range(count * rank // number, count * (rank + 1) // number)


def wait() -> None:
    """Until every process is here."""
    if processes().num_processes > 1:
        processes().wait_for_everyone()


def gather(values: list[Value]) -> list[Value]:
    """The values of all processes, in their order."""
    return gather_object(values) if processes().num_processes > 1 else values


def from_main(value: Value) -> Value:
    """The value that the main process holds."""
    if processes().num_processes == 1:
        return value
    held: list[Any] = [value]
    broadcast_object_list(held)
    return held[0]


def add_up(sums: dict[str, float]) -> dict[str, float]:
    """Metrics that are sums over a batch, added over the processes' parts of it."""
    if processes().num_processes == 1:
        return sums
    totals: dict[str, float] = {}
    for part in gather([sums]):
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


@torch.no_grad()
def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients over the processes, once a step, before clipping.

    A sum and not a mean: losses are already divided by the count of the whole batch. A weight that
    no process has a gradient of keeps none, so optimizers skip it as they do with one process.
    Sharded weights are left alone, FSDP adds theirs during backward.
    """
    own = list(parameters)
    if processes().num_processes == 1 or any(hasattr(p, "full_tensor") for p in own):
        return
    used = torch.tensor([float(p.grad is not None) for p in own], device=processes().device)
    dist.all_reduce(used)
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter, number in zip(own, used.tolist(), strict=True):
        if number:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            groups.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in groups.values():
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def same_weights(parameters: Sequence[nn.Parameter]) -> None:
    """Give every process the main one's weights, where some were drawn at random."""
    if processes().num_processes > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


def precision() -> AbstractContextManager:
    """Context of forward passes: autocast where the launcher asks for mixed precision.

    With FSDP the sharded modules cast by themselves.
    """
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed == "no" or os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return nullcontext()
    assert mixed == "bf16", mixed
    return torch.autocast(processes().device.type, torch.bfloat16)
