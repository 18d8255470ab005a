"""The classes of trainers that are subclassed, as their repositories have them.

Flow-Factory `src/flow_factory/rewards/abc.py`, UniRL
`unirl-reward-service/reward_service/scorers/base.py`: neither package is on the index.
"""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch


@dataclass
class RewardModelOutput:
    rewards: Any
    extra_info: dict[str, Any] | None = None


class PointwiseRewardModel(ABC):
    required_fields: tuple[str, ...] = ("image", "prompt")
    use_tensor_inputs: bool = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.config = config
        is_cuda = config.device == torch.device("cuda")
        self.device = accelerator.device if is_cuda else config.device
        self.dtype = config.dtype
        self.model: torch.nn.Module | None = None

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> RewardModelOutput: ...

    def to(self, device: torch.device) -> "PointwiseRewardModel":
        if self.model is not None:
            self.model.to(device)
        self.device = device
        return self


@dataclass(frozen=True)
class ScoreItem:
    history: list[tuple[str, Any]]
    videos: tuple[Any, ...] | None = None
    metadata: dict | None = None


class BaseScorer(ABC):
    name: str = ""
    version: str = "1"
    input_kind: str = "image"
    supports_offload: bool = False
    supports_grad: bool = False
    sub_metric_names: tuple[str, ...] = ()

    @abstractmethod
    def score(self, items: list[ScoreItem]) -> list[dict[str, float]]: ...

    def score_tensors(self, images: Any, prompts: Any) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not implement score_tensors")


def install(patch: pytest.MonkeyPatch) -> None:
    """Make them importable by the names of their packages."""
    modules = {
        "flow_factory.rewards.abc": (PointwiseRewardModel, RewardModelOutput),
        "reward_service.scorers.base": (BaseScorer, ScoreItem),
    }
    for path, classes in modules.items():
        names = path.split(".")
        for depth in range(1, len(names) + 1):
            name = ".".join(names[:depth])
            if name not in sys.modules:
                patch.setitem(sys.modules, name, ModuleType(name))
        for one in classes:
            setattr(sys.modules[path], one.__name__, one)
