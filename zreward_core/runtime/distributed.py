"""Data parallelism. With one process every function here is an identity or does nothing.

Every process draws a step's full batch from (seed, step), computes its own part, and divides its
sums by the counts of the full batch, so that losses and gradients add up to those of one process.
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
COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Timeout of collectives; long enough for one process to write a large checkpoint."""


def processes() -> PartialState:
    """The processes of this stage; the first call initializes the process group."""
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    if PartialState._shared_state:
        return PartialState()
    timeout = {"timeout": COLLECTIVE_TIMEOUT} if "RANK" in os.environ else {}
    return PartialState(cpu=use_cpu or not torch.accelerator.is_available(), **timeout)


def own_part(count: int) -> range:
    """Indices, out of ``count``, that this process computes."""
    state = processes()
    return part_of(count, state.process_index, state.num_processes)


def part_of(count: int, rank: int, number: int) -> range:
    """Indices of process ``rank`` of ``number``: contiguous; sizes differ by at most one."""
    return range(count * rank // number, count * (rank + 1) // number)


def wait() -> None:
    """Wait until every process has reached this point."""
    if processes().num_processes > 1:
        processes().wait_for_everyone()


def gather(values: list[Value]) -> list[Value]:
    """The values of all processes, in order of rank."""
    return gather_object(values) if processes().num_processes > 1 else values


def from_main(value: Value) -> Value:
    """The main process's value, in every process."""
    if processes().num_processes == 1:
        return value
    held: list[Any] = [value]
    broadcast_object_list(held)
    return held[0]


def add_up(sums: dict[str, float]) -> dict[str, float]:
    """Sum metrics over the processes; each is already a sum over a process's part of the batch."""
    if processes().num_processes == 1:
        return sums
    totals: dict[str, float] = {}
    for part in gather([sums]):
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


@torch.no_grad()
def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """All-reduce the gradients, once per step, before clipping.

    A sum, not a mean: losses are already divided by the count of the full batch. A parameter
    without a gradient in every process keeps none, so that optimizers skip it as they do with one
    process. Sharded parameters are skipped; FSDP reduces their gradients during backward.
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
    """Broadcast the main process's weights, for parameters that were initialized at random."""
    if processes().num_processes > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


def precision() -> AbstractContextManager:
    """Context of forward passes: autocast if the launcher sets mixed precision.

    Not with FSDP, which casts the inputs and weights of the sharded modules itself.
    """
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed == "no" or os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return nullcontext()
    assert mixed == "bf16", mixed
    return torch.autocast(processes().device.type, torch.bfloat16)
