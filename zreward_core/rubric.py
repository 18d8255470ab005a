"""The rubric: dimensions, levels, scale, the label of each level, from data/rubric.yaml alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError, model_validator

from zreward_core.config import Settings, UserError, read_yaml

RUBRIC_FILE = Path("data/rubric.yaml")


class Pattern(Settings):
    """An error pattern for annotators; not part of the models' prompts."""

    name: str
    """Name of the error."""
    points: float = Field(gt=0)
    """Rubric points that one such error takes off the best score."""
    text: str = ""
    """Its appearance, in plain words."""


class Dimension(Settings):
    """A quality that annotators judge."""

    name: str
    """Identifier, used in tables and metrics."""
    title: str
    """Name shown to annotators."""
    question: str
    """The question put to annotators and models, in one sentence."""
    levels: dict[float, str]
    """Score to a description of its images; half points may be omitted."""
    patterns: list[Pattern] = Field(default_factory=list, exclude=True)
    """For annotators only: not part of the rubric's hash or of a model's card."""


class Rubric(Settings):
    """A scoring rubric of D dimensions over S levels."""

    name: str
    """Name of the rubric."""
    levels: list[float]
    """The S scores an annotator may give, ascending (the paper's S)."""
    labels: list[str]
    """The model's answer for each level: S strings, each a single token of the model."""
    dimensions: list[Dimension]
    """The D dimensions, in the order of every table and tensor."""
    exemplars: Path | None = Field(default=None, exclude=True)
    """Folder of calibration images (``label_studio.exemplars``); for annotators only."""

    @model_validator(mode="after")
    def _consistent(self) -> "Rubric":
        if len(self.levels) < 2 or sorted(set(self.levels)) != self.levels:
            raise ValueError("levels must be at least two distinct scores in ascending order")
        if len(self.labels) != len(self.levels) or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct, one for each level")
        if not self.dimensions or len({d.name for d in self.dimensions}) != len(self.dimensions):
            raise ValueError("dimensions must have distinct names")
        for dimension in self.dimensions:
            unknown = sorted(set(dimension.levels) - set(self.levels))
            if unknown:
                raise ValueError(f"dimension {dimension.name} describes unknown levels {unknown}")
            patterns = [pattern.name for pattern in dimension.patterns]
            if len(set(patterns)) != len(patterns):
                raise ValueError(f"dimension {dimension.name} names a pattern twice")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the D dimensions."""
        return [dimension.name for dimension in self.dimensions]

    @property
    def minimum(self) -> float:
        """S_min."""
        return self.levels[0]

    @property
    def maximum(self) -> float:
        """S_max."""
        return self.levels[-1]

    @property
    def sha256(self) -> str:
        """Hash of the parts of the rubric that are given to models."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def histogram(self, scores: list[float] | np.ndarray) -> np.ndarray:
        """Share of each level among scores; a score between two levels is split between them.

        Args:
            scores: any number (at least one) of scores within the scale.

        Returns:
            [S] shares that sum to one. The mean of the histogram is the mean of the scores.
        """
        levels = np.asarray(self.levels)
        scores = np.asarray(scores, dtype=float)
        upper = np.clip(np.searchsorted(levels, scores, side="left"), 1, len(levels) - 1)
        share = (scores - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
        counts = np.zeros(len(levels))
        np.add.at(counts, upper, share)
        np.add.at(counts, upper - 1, 1.0 - share)
        return counts / len(scores)


def load_rubric(path: Path = RUBRIC_FILE) -> Rubric:
    """Read a rubric file.

    Raises:
        UserError: the file is missing or is not a valid rubric.
    """
    try:
        return Rubric(**read_yaml(path))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path} is not a valid rubric: {faults}; correct it") from None
