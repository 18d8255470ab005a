"""Z-Reward: score distributions from a reasoning teacher, one-token students, tuned generators.

Importing this package does not import torch: ``RewardModel`` is loaded on first access.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zreward_core.models.scorer import RewardModel

__all__ = ["RewardModel"]


def __getattr__(name: str) -> object:
    if name == "RewardModel":
        from zreward_core.models.scorer import RewardModel

        return RewardModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
