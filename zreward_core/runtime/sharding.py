"""FSDP2 for models that do not fit one GPU: weights, gradients and optimizer state in shards.

accelerate's plugin reads the settings that the launcher puts into the environment; torch's
``fully_shard`` carries them out. Without such settings everything here is the plain thing.
Every process must run a sharded forward equally often, which sampling does not: it happens on
gathered weights.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from zreward_core.config import UserError
from zreward_core.runtime.distributed import processes, same_weights


def is_sharding() -> bool:
    """Whether the launcher asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def require_divisible(count: int, name: str) -> None:
    """Check that shards' forward passes are as many in every process.

    Raises:
        UserError: ``count`` things cannot be divided evenly.
    """
    number = processes().num_processes
    if is_sharding() and count % number:
        raise UserError(
            f"params.yaml: '{name}' is {count}, which FSDP over {number} processes (launch.yaml)"
            f" cannot divide evenly: use a multiple of {number}"
        )


def place(network: Any) -> None:
    """Move a network to this process's device; in shards if asked, layer by layer.

    Weights to train are then the same in all processes, also where some were drawn at random.

    Args:
        network: a module that holds the transformers model as ``model``; its forward is the only
            one in training.
    """
    device = processes().device
    if not is_sharding():
        network.to(device)
        same_weights([p for p in network.parameters() if p.requires_grad])
        return
    plugin = FullyShardedDataParallelPlugin()
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        plugin.set_mixed_precision(os.environ["ACCELERATE_MIXED_PRECISION"])
    layers = plugin.transformer_cls_names_to_wrap or network.model._no_split_modules
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (processes().num_processes,)),
        "reshard_after_forward": plugin.reshard_after_forward,
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        "offload_policy": plugin.cpu_offload,
    }
    for module in list(network.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, **settings)
    fully_shard(network, **settings)
    for part in _parts(network):  # a sum: losses are divided by counts of the whole batch
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)
    # Sampling calls inner modules first, and whatever is called first would count as the root.
    network._get_fsdp_state()._lazy_init()


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Within the block every process holds the whole weights and may run as it likes."""
    parts = _parts(network)
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


@contextmanager
def using(backbone: Any, weights: list[torch.Tensor]) -> Iterator[None]:
    """Within the block the backbone's trainable weights are these, sharded or not."""
    parts = _parts(backbone.network)
    if not parts:
        with backbone.using(weights):
            yield
        return
    kept = backbone.snapshot()
    _assign(parts, backbone.trainable(), weights)
    try:
        yield
    finally:
        _assign(parts, backbone.trainable(), kept)


def full_tensors(state: Any) -> Any:
    """The same lists and dicts with whole tensors for shards; every process must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return {key: full_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [full_tensors(value) for value in state]
    return state


def shard_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor on another's device, and in its shards where it has any."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state of whole tensors."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        like = parameters[index]
        for name, value in values.items():
            if isinstance(like, DTensor) and getattr(value, "shape", None) == like.shape:
                values[name] = shard_like(value, like)
    optimizer.load_state_dict(state)


def unsharded(backbone: Any, load: Callable[[], Any]) -> Any:
    """The backbone itself, or where it is sharded a whole one with its weights, on the CPU.

    Args:
        backbone: trained; every process must call.
        load: makes the whole one as it was before training, opened for training.
    """
    if not is_sharding():
        return backbone
    trained = [full_tensors(value).cpu() for value in backbone.trainable()]
    fresh = load()
    for parameter, value in zip(fresh.trainable(), trained, strict=True):
        parameter.data.copy_(value)
    return fresh


def _parts(network: nn.Module) -> list[FSDPModule]:
    return [module for module in network.modules() if isinstance(module, FSDPModule)]


@torch.no_grad()
def _assign(
    parts: list[FSDPModule], parameters: list[nn.Parameter], values: list[torch.Tensor]
) -> None:
    for part in parts:
        part.reshard()
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
