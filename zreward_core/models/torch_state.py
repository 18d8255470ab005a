"""What a program has set in torch for its own models, and must not change a score."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def without_autocast() -> Iterator[None]:
    """Within the block autocast is off on the CPU and on the accelerator."""
    here = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        for kind in {"cpu", "cpu" if here is None else here.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def on_cpu_by_default() -> Iterator[None]:
    """Within the block tensors are made on the CPU unless another device is named.

    Programs set a default device, or make their models within ``with torch.device(...)``.
    """
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
