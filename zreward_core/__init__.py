"""Z-Reward: score distributions from a reasoning teacher, one-token students, tuned generators.

Importing this package does not import torch: its classes are loaded on first access.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zreward_core.evaluation.early_stopping import HackingMonitor
    from zreward_core.models.scorer import RewardModel
    from zreward_core.models.scores import Scores
    from zreward_core.models.teacher import TeacherJudge

__all__ = ["HackingMonitor", "RewardModel", "Scores", "TeacherJudge"]
_MODULES = {
    "HackingMonitor": "zreward_core.evaluation.early_stopping",
    "RewardModel": "zreward_core.models.scorer",
    "Scores": "zreward_core.models.scores",
    "TeacherJudge": "zreward_core.models.teacher",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
