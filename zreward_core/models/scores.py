"""Score distributions of images, with their means, spreads and preferences.

Shapes: B images, D dimensions, S levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from zreward_core.arguments import finite_number
from zreward_core.models.score_decoder import expected_score

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Scores:
    """Score distributions of B images in D dimensions.

    All numbers of an image that could not be scored are NaN; ``errors`` has the reason.
    """

    dimensions: list[str]
    """Names of the D dimensions."""
    probs: torch.Tensor
    """[B, D, S] distribution over the rubric's levels."""
    mass: torch.Tensor
    """[B, D] total probability of the score tokens."""
    levels: torch.Tensor
    """[S] score of each level."""
    weights: torch.Tensor
    """[D] weight of each dimension in ``overall``, from the rubric."""
    errors: dict[int, str] = field(default_factory=dict)
    """Index of an image to the reason why it has no score."""

    def __len__(self) -> int:
        return len(self.probs)

    @property
    def mean(self) -> torch.Tensor:
        """[B, D] expected scores (equation 16), in rubric units."""
        return expected_score(self.probs, self.levels)

    @property
    def std(self) -> torch.Tensor:
        """[B, D] standard deviation of the distributions, in rubric units."""
        second = expected_score(self.probs, self.levels**2)
        return (second - self.mean**2).clamp(min=0.0).sqrt()

    @property
    def entropy(self) -> torch.Tensor:
        """[B, D] entropy of the distributions, in nats."""
        return -torch.xlogy(self.probs, self.probs).sum(-1)

    @property
    def overall(self) -> torch.Tensor:
        """[B] mean over the dimensions by the rubric's weights, in rubric units."""
        return self.aggregate(self.mean)

    def aggregate(self, values: torch.Tensor) -> torch.Tensor:
        """[B] weighted mean over the dimensions of values [B, D], such as ``lower_bound()``.

        Dimensions that all have the weight 0 have the same weight.
        """
        weights = self.weights if self.weights.any() else torch.ones_like(self.weights)
        weights = weights.to(values.device)
        return (values * weights).sum(1) / weights.sum()

    def lower_bound(self, k: float = 1.0) -> torch.Tensor:
        """[B, D] mean - k std, in rubric units: low where the model is unsure as well."""
        return self.mean - finite_number("k", k) * self.std

    def prefer(self, i: int, j: int) -> torch.Tensor:
        """[D] probability that image i scores above image j; a tie counts one half."""
        joint = self.probs[i][:, :, None] * self.probs[j][:, None, :]
        above = torch.tril(joint, -1).sum((1, 2))
        tie = torch.diagonal(joint, dim1=1, dim2=2).sum(-1)
        return above + 0.5 * tie

    def rows(self) -> list[dict[str, dict[str, object]]]:
        """For each image, dimension name to mean, std, mass and probs as plain numbers.

        Empty for an image that has no score.
        """
        mean, std = self.mean.tolist(), self.std.tolist()
        mass, probs = self.mass.tolist(), self.probs.tolist()
        return [
            {
                name: {
                    "mean": mean[b][d],
                    "std": std[b][d],
                    "mass": mass[b][d],
                    "probs": probs[b][d],
                }
                for d, name in enumerate(self.dimensions)
                if b not in self.errors
            }
            for b in range(len(probs))
        ]

    def to_pandas(self) -> "pd.DataFrame":
        """A row per image: DIMENSION_mean, _std, _mass and _probs, overall, error (or None).

        The numbers of an image that has no score are missing.
        """
        import pandas as pd

        columns: dict[str, object] = {}
        for d, name in enumerate(self.dimensions):
            columns[f"{name}_mean"] = self.mean[:, d].numpy()
            columns[f"{name}_std"] = self.std[:, d].numpy()
            columns[f"{name}_mass"] = self.mass[:, d].numpy()
            probs = self.probs[:, d].tolist()
            columns[f"{name}_probs"] = [
                None if b in self.errors else row for b, row in enumerate(probs)
            ]
        columns["overall"] = self.overall.numpy()
        reasons = [self.errors.get(b) for b in range(len(self))]
        return pd.DataFrame({**columns, "error": pd.Series(reasons, dtype=object)})


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of consecutive parts of the images, at least one part, as one."""
    errors: dict[int, str] = {}
    start = 0
    for part in parts:
        errors |= {start + b: reason for b, reason in part.errors.items()}
        start += len(part)
    return Scores(
        parts[0].dimensions,
        torch.cat([part.probs for part in parts]),
        torch.cat([part.mass for part in parts]),
        parts[0].levels,
        parts[0].weights,
        errors,
    )
