"""What a rollout engine holds on a stage's GPUs, and how fast it samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from zreward_core.commands.plan.use import Use
from zreward_core.config import UserError
from zreward_core.runtime.engine_settings import Vllm

UTILIZATION = "gpu-memory-utilization"
DEFAULT_UTILIZATION = 0.92
"""Share of a GPU's memory that vLLM 0.32 reserves if it is given none."""
PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size")
"""Arguments whose product is the number of GPUs of a server; weights are divided over them."""


@dataclass(frozen=True)
class Engine:
    """A server that a stage starts on its machine, or joins."""

    devices: tuple[int, ...]
    """Its GPUs, by their number on the machine; none if it is joined."""
    share: float
    """Of the memory of each, which it reserves."""

    def beside(self, use: Use, processes: int, memory: float) -> Use:
        """What a process holds, together with the engine where both are on one GPU.

        Args:
            processes: of the stage on the machine, one a GPU, from GPU 0.
            memory: of a GPU, in bytes.
        """
        shared = any(device < processes for device in self.devices)
        return replace(use, engine=self.share * memory if shared else 0.0)

    def own(self, weights: float, adapters: float, cache: float, memory: float) -> Use:
        """What the engine holds on one of its GPUs: the rest of its share is for caches.

        Args:
            weights: of the served model.
            adapters: of a policy in training, in float32: room for two of them in bfloat16.
            cache: of one trace, the least that it needs.
            memory: of a GPU, in bytes.
        """
        number, available = len(self.devices), self.share * memory
        own = Use(weights / number, adapters, available=available)
        return replace(own, caches=max(cache / number, available - own.total))


def engine_of(settings: Vllm, path: Path) -> Engine:
    """The GPUs of an engine and what it reserves, from its arguments and environment.

    Raises:
        UserError: an argument is not a number; names ``path``, the launch file.
    """
    if settings.url is not None:
        return Engine((), 0.0)
    number = 1
    for name in PARALLEL:
        number *= int(_number(path, settings.arguments, name, 1))
    visible = settings.environment.get("CUDA_VISIBLE_DEVICES")
    devices = [str(n) for n in range(number)] if visible is None else visible.split(",")[:number]
    return Engine(
        tuple(int(one) if one.strip().isdigit() else n for n, one in enumerate(devices)),
        _number(path, settings.arguments, UTILIZATION, DEFAULT_UTILIZATION),
    )


def _number(path: Path, arguments: Sequence[str], name: str, default: float) -> float:
    """The last value of an argument, written as `--name value` or `--name=value`."""
    found = str(default)
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        key, _, value = argument.partition("=")
        if key.lstrip("-").replace("_", "-") == name:
            found = value or following
    try:
        return float(found)
    except ValueError:
        raise UserError(f"{path}: an engine's --{name} is {found!r}, not a number") from None
