"""Modules that are on the GPU only while they are used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


def park(modules: Sequence[nn.Module], device: torch.device) -> None:
    """Move frozen modules to the CPU, from where they are copied to a GPU quickly."""
    for module in modules:
        module.to("cpu")
        if device.type == "cuda":
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.data = tensor.data.pin_memory()


@contextmanager
def placed(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Keep modules on a device within the block; each returns to where it was.

    The frozen weights of a module that returns to the CPU are not copied back.
    """
    moved: list[tuple[torch.Tensor, torch.Tensor | torch.device]] = []
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device != device:
                kept = tensor.device.type == "cpu" and not tensor.requires_grad
                moved.append((tensor, tensor.data if kept else tensor.device))
                tensor.data = tensor.data.to(device)
    try:
        yield
    finally:
        for tensor, home in moved:
            tensor.data = home if isinstance(home, torch.Tensor) else tensor.data.to(home)
