"""Peak bytes of real-size models without computing anything, on fake tensors.

Counts every storage that operators make, from its creation until the last tensor of it is gone.
Fragmentation and the workspaces of kernels are not in it.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Memory(TorchDispatchMode):
    """Bytes of the live storages, and their peak since ``reset``."""

    def __init__(self) -> None:
        super().__init__()
        self.live: float = 0
        self.peak: float = 0
        self._sizes: dict[int, int] = {}

    def reset(self, below: Iterable[torch.Tensor] = ()) -> None:
        """Count from here on, without some tensors."""
        self.live -= sum(tensor.numel() * tensor.element_size() for tensor in below)
        self.peak = self.live

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._sizes:
                self._sizes[storage._cdata] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, storage._cdata)
        return result


@contextmanager
def fake_memory() -> Iterator[Memory]:
    """Within the block tensors have no data, and their memory is counted."""
    with FakeTensorMode(allow_non_fake_inputs=True), Memory() as memory:
        yield memory


def give_fake_weights(module: torch.nn.Module) -> None:
    """Give a module of the device "meta" weights on a (fake) device; call it in ``fake_memory``."""
    made: dict[int, torch.nn.Parameter] = {}
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                if id(value) not in made:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    made[id(value)] = torch.nn.Parameter(empty, value.requires_grad)
                part._parameters[name] = made[id(value)]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
