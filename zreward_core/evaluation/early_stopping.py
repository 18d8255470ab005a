"""Early stopping of reward tuning: a reward that rises while a judge not trained on falls.

Shapes: V validations, N prompts, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zreward_core.arguments import whole_number
from zreward_core.config import UserError
from zreward_core.evaluation.paired import hacked_dimensions
from zreward_core.schemas import NotFinite


@dataclass(frozen=True)
class Verdict:
    """The state of tuning at a validation."""

    hacked: list[str]
    """Names among the dimensions and "mean" in which the panel fell while the reward rose."""
    stop: bool
    """Whether the last ``patience`` validations all have a hacked dimension."""
    keep: int
    """Step of the last validation without one, whose weights are to be kept."""

    def __str__(self) -> str:
        if not self.hacked:
            return "no dimension is hacked"
        todo = f"; stop, and keep the weights of step {self.keep}" if self.stop else ""
        return f"the panel fell while the reward rose: {', '.join(self.hacked)}{todo}"


class HackingMonitor:
    """Detects that tuning exploits its reward, in any trainer.

    The panel is a judge that is never trained on, such as the teacher. Both score the images of the
    same prompts, from the same seeds, at every validation; the first one is before tuning.
    """

    def __init__(self, dimensions: Sequence[str], patience: int = 2, seed: int = 0) -> None:
        """Start without validations.

        Args:
            dimensions: the D names.
            patience: validations in a row with a hacked dimension that end tuning.
            seed: of the bootstrap resamples of prompts.
        """
        self.dimensions = [dimensions] if isinstance(dimensions, str) else list(dimensions)
        self.patience = whole_number("patience", patience)
        self.seed = whole_number("seed", seed, least=0)
        self._steps: list[int] = []
        self._reward_VND: list[np.ndarray] = []
        self._panel_VND: list[np.ndarray] = []
        self._keep = 0

    def update(self, reward: Any, panel: Any, step: int | None = None) -> Verdict:
        """Add a validation.

        Args:
            reward, panel: [N, D] scores of the same images (arrays, tensors or lists); [N] if there
                is one dimension.
            step: of training; None: the number of validations before.

        Raises:
            UserError: another shape than expected, or than before.
            NotFinite: a score is NaN or infinite.
        """
        pair = [self._checked(*one) for one in (("reward", reward), ("panel", panel))]
        if pair[0].shape != pair[1].shape:
            raise UserError(
                f"the reward has scores {list(pair[0].shape)} and the panel {list(pair[1].shape)}:"
                " pass scores of the same images"
            )
        number = len(self._steps) if step is None else whole_number("step", step, least=0)
        for scores, kept in zip(pair, (self._reward_VND, self._panel_VND), strict=True):
            kept.append(scores)
        self._steps.append(number)
        hacked, stop = find_hacking(
            np.stack(self._panel_VND),
            np.stack(self._reward_VND),
            self.dimensions,
            self.patience,
            self.seed,
        )
        if not hacked:
            self._keep = number
        return Verdict(hacked, stop, self._keep)

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on, as lists and numbers."""
        return {
            "steps": list(self._steps),
            "keep": self._keep,
            "reward": [scores.tolist() for scores in self._reward_VND],
            "panel": [scores.tolist() for scores in self._panel_VND],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a monitor of the same settings."""
        self._steps, self._keep = list(state["steps"]), state["keep"]
        self._reward_VND = [np.array(scores) for scores in state["reward"]]
        self._panel_VND = [np.array(scores) for scores in state["panel"]]

    def _checked(self, name: str, scores: Any) -> np.ndarray:
        if hasattr(scores, "detach"):  # a tensor, of any device and dtype
            scores = scores.detach().double().cpu()
        try:
            found = np.atleast_1d(np.asarray(scores, dtype=np.float64))
        except (TypeError, ValueError):
            raise UserError(
                f"the {name} is of type {type(scores).__name__}: pass numbers [prompts,"
                " dimensions], such as Scores.mean"
            ) from None
        if found.ndim == 1 and len(self.dimensions) == 1:
            found = found[:, None]
        num_prompts = len(self._reward_VND[0]) if self._reward_VND else max(1, len(found))
        if found.shape != (num_prompts, len(self.dimensions)):
            raise UserError(
                f"the {name} has scores {list(found.shape)}: pass [{num_prompts},"
                f" {len(self.dimensions)}], of the same prompts at every validation, for the"
                f" dimensions {', '.join(self.dimensions)}"
            )
        if not np.isfinite(found).all():
            raise NotFinite(f"the {name} has a score that is not finite: leave that prompt out")
        return found


def find_hacking(
    panel_VND: np.ndarray,
    reward_VND: np.ndarray,
    dimensions: Sequence[str],
    patience: int,
    seed: int,
) -> tuple[list[str], bool]:
    """Dimensions hacked at the last validation, and whether to stop.

    Tuning stops when each of the last ``patience`` validations has a hacked dimension.

    Args:
        panel_VND, reward_VND: [V, N, D] scores of the same prompts at each validation.
        dimensions: the D names.
        patience: validations in a row.
        seed: of the resamples.
    """
    ends = range(len(panel_VND), max(len(panel_VND) - patience, 0), -1)
    hacked = [
        hacked_dimensions(panel_VND[:end], reward_VND[:end], dimensions, seed) for end in ends
    ]
    return hacked[0], len(hacked) == patience and all(hacked)
