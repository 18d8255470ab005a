"""Simulated annotators: the pixel oracle's scores plus bias, noise and rating behaviour.

All randomness is keyed by the seed, the annotator, the image's sha256 and the dimension, never by
identifiers or order: an annotator always gives the same image the same rating.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zreward_core.schemas import normalise_prompt

BIAS = 0.3
"""Standard deviation of an annotator's bias on a dimension, in rubric units."""
NOISE = 0.7
"""Standard deviation of a single rating around the annotator's mean rating, in rubric units."""
SKIP_SHARE = 0.03
"""Share of tasks that an annotator skips."""
CARELESS_SHARE = 0.8
"""Share of a careless annotator's ratings that ignore the image."""
MINIMUM, MAXIMUM = 1.0, 5.0


@dataclass(frozen=True)
class Annotator:
    """One simulated annotator."""

    annotator_id: str
    seed: int
    step: float
    """Ratings are multiples of this: 0.5, or 1.0 for annotators who use whole points only."""
    noise: float
    """Standard deviation of a rating, in rubric units."""
    careless: bool
    pace: float
    """Typical time for a task, in seconds."""

    def rate(
        self, scores: Mapping[str, float], image_id: str, prompt: str
    ) -> dict[str, float] | None:
        """Ratings of one image.

        Args:
            scores: the oracle's score of each dimension, 1 to 5.
            image_id: sha256 of the image's bytes.
            prompt: the image's prompt.

        Returns:
            A rating of each dimension, or None if the annotator skips the task.
        """
        key = (image_id, normalise_prompt(prompt))
        if self._rng("skip", *key).random() < SKIP_SHARE:
            return None
        return {
            dimension: self._rating(dimension, score, key) for dimension, score in scores.items()
        }

    def seconds(self, image_id: str, prompt: str) -> float:
        """Time spent on the task, in seconds."""
        factor = self._rng("seconds", image_id, normalise_prompt(prompt)).lognormal(0.0, 0.4)
        return round(float(self.pace * factor), 1)

    def bias(self, dimension: str) -> float:
        """Constant offset of this annotator's ratings on a dimension, in rubric units."""
        return float(BIAS * self._rng("bias", dimension).standard_normal())

    def _rating(self, dimension: str, score: float, key: tuple[str, str]) -> float:
        rng = self._rng("rating", dimension, *key)
        opinion = score + self.bias(dimension) + self.noise * rng.standard_normal()
        if self.careless and rng.random() < CARELESS_SHARE:
            opinion = rng.uniform(MINIMUM - self.step / 2, MAXIMUM + self.step / 2)
        rating = self.step * np.round(opinion / self.step)
        return float(np.clip(rating, MINIMUM, MAXIMUM))

    def _rng(self, *key: str) -> np.random.Generator:
        text = "\x1f".join([str(self.seed), self.annotator_id, *key])
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()[:16]))


def make_annotators(num: int, seed: int) -> list[Annotator]:
    """Create ``num`` annotators; with five or more, the last one is careless.

    Every fourth annotator uses whole points only.
    """
    team = []
    for index in range(num):
        rng = np.random.default_rng([seed, index, 7])
        careless = num >= 5 and index == num - 1
        team.append(
            Annotator(
                annotator_id=f"annotator-{index + 1:02d}",
                seed=seed,
                step=1.0 if index % 4 == 3 else 0.5,
                noise=NOISE * float(rng.uniform(0.85, 1.15)),
                careless=careless,
                pace=float(rng.uniform(14, 32)) * (0.3 if careless else 1.0),
            )
        )
    return team
