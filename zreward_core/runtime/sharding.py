"""FSDP2 for models that do not fit on one GPU: sharded weights, gradients and optimizer state.

With several replicas (HSDP) each group of processes shards a copy of the model, and gradients are
summed over the copies. The launcher sets environment variables, accelerate's classes read them,
torch's ``fully_shard`` applies them. Without them the functions here handle an unsharded model.
Every process must run the same number of sharded forward passes; sampling does not, so it runs on
gathered weights.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin, ParallelismConfig
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from zreward_core.config import UserError
from zreward_core.launch_file import launch_file_name
from zreward_core.runtime.checkpoint import require_shapes
from zreward_core.runtime.distributed import processes, same_weights


def is_sharding() -> bool:
    """Whether the launcher enables FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def require_divisible(count: int, name: str) -> None:
    """Check that ``count`` is a multiple of the number of processes, as FSDP requires.

    Raises:
        UserError: it is not.
    """
    number = processes().num_processes
    if is_sharding() and count % number:
        raise UserError(
            f"params.yaml: '{name}' is {count}, but FSDP with {number} processes"
            f" ({launch_file_name()}) needs a multiple of {number}"
        )


def place(network: Any) -> None:
    """Move a network to this process's device, sharded layer by layer if FSDP is enabled.

    Trainable weights are then the same in all processes, those initialized at random included.

    Args:
        network: a module with the transformers model as ``model``; training calls only the
            module's own forward.
    """
    device = processes().device
    if not is_sharding():
        network.to(device)
        same_weights([p for p in network.parameters() if p.requires_grad])
        return
    plugin = FullyShardedDataParallelPlugin()
    layers = plugin.transformer_cls_names_to_wrap or network.model._no_split_modules
    settings: dict[str, Any] = {
        "mesh": _mesh(device),
        "reshard_after_forward": plugin.reshard_after_forward,
        "mp_policy": _mixed_precision(),
        "offload_policy": plugin.cpu_offload,
    }
    for module in list(network.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, **settings)
    fully_shard(network, **settings)
    for part in _parts(network):  # sum, not mean: losses are divided by counts of the full batch
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)
    # Sampling calls inner modules first, and FSDP treats the first called module as the root.
    network._get_fsdp_state()._lazy_init()


def _mixed_precision() -> MixedPrecisionPolicy:
    """The launcher's precision. Layers compute in it; outputs keep the data type that they have.

    accelerate's own policy casts outputs too, which would round log-probabilities and scores to
    three digits, and reduces gradients in the lower precision.
    """
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed == "no":
        return MixedPrecisionPolicy()
    assert mixed == "bf16", mixed
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def _mesh(device: torch.device) -> DeviceMesh:
    """The processes: [shards], or with several replicas [replicas, shards] in order of rank."""
    number = processes().num_processes
    parallelism = ParallelismConfig()
    if parallelism.dp_replicate_size == 1:
        return init_device_mesh(device.type, (number,))
    parallelism = ParallelismConfig(dp_shard_size=number // parallelism.dp_replicate_size)
    return parallelism.build_device_mesh(device.type)[tuple(parallelism.fsdp_dim_names)]


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Within the block every process has the full weights and may run any number of forwards."""
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
    """Within the block the backbone has these trainable weights, sharded or not."""
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
    """Gather the sharded tensors in nested lists and dicts; every process must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return {key: full_tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [full_tensors(value) for value in state]
    return state


def shard_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A full tensor moved to another's device and sharded like it."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer state of full tensors.

    Raises:
        UserError: it has the shapes of other weights.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        like = parameters[index]
        tensors = [value for value in values.values() if getattr(value, "ndim", 0)]
        require_shapes(tensors, [like] * len(tensors))
        for name, value in values.items():
            if isinstance(like, DTensor) and getattr(value, "shape", None) == like.shape:
                values[name] = shard_like(value, like)
    optimizer.load_state_dict(state)


def unsharded(backbone: Any, load: Callable[[], Any]) -> Any:
    """The backbone, or if it is sharded a full copy with its weights on the CPU.

    Args:
        backbone: the trained backbone; every process must call.
        load: builds the full backbone as before training, with trainable parameters set up.
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
