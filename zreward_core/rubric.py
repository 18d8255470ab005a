"""The rubric: dimensions, levels, scale, the label of each level, from data/rubric.yaml alone."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from zreward_core.config import Number, Positive, Settings, Weight, parse_settings, read_yaml

RUBRIC_FILE = Path("data/rubric.yaml")
DEMO_SHA256 = "e01d604c7f60c6fbc5b79a315a6430f8d8eea443e49188a0e537411cbec0ed71"
"""``sha256`` of the rubric that the project comes with, which describes images of shapes."""


def _distinct_numbers(levels: Any) -> Any:
    """5.0 and "5.0" are the same key to pydantic, which keeps the last one."""
    if isinstance(levels, dict) and len({_text(key) for key in levels}) < len(levels):
        raise ValueError("describes a level twice; remove one of the descriptions")
    return levels


def _text(key: object) -> str:
    try:
        return repr(float(str(key)))
    except ValueError:
        return str(key)


Level = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A score. Its square is finite in float32."""
Name = Annotated[str, StringConstraints(min_length=1)]
"""Text that is not empty."""


class Pattern(Settings):
    """An error pattern for annotators; not part of the models' prompts."""

    name: str
    """Name of the error."""
    points: Positive
    """Rubric points that one such error takes off the best score."""
    text: str = ""
    """Its appearance, in plain words."""


class Dimension(Settings):
    """A quality that annotators judge."""

    name: Name
    """Identifier, used in tables and metrics."""
    title: str
    """Name shown to annotators."""
    question: str
    """The question put to annotators and models, in one sentence."""
    levels: Annotated[dict[Level, str], BeforeValidator(_distinct_numbers)]
    """Score to a description of its images; half points may be omitted."""
    weight: Weight = Field(default=1.0, exclude_if=lambda weight: weight == 1.0)
    """Weight of the dimension in an image's overall score; the weights are divided by their sum."""
    patterns: list[Pattern] = Field(default_factory=list, exclude=True)
    """For annotators only: not part of the rubric's hash or of a model's card."""


class Rubric(Settings):
    """A scoring rubric of D dimensions over S levels."""

    name: Name
    """Name of the rubric."""
    levels: list[Annotated[Level, Number]]
    """The S scores an annotator may give, ascending (the paper's S)."""
    labels: list[Name]
    """The model's answer for each level: S strings, each a single token of the model."""
    dimensions: list[Dimension]
    """The D dimensions, in the order of every table and tensor."""
    exemplars: Path | None = Field(default=None, exclude=True)
    """Folder of calibration images (``label_studio.exemplars``); for annotators only."""

    @model_validator(mode="after")
    def _consistent(self) -> "Rubric":
        distinct = np.unique(np.asarray(self.levels, dtype=np.float32))  # models compute in float32
        if len(distinct) < 2 or len(distinct) < len(self.levels):
            raise ValueError("levels must be at least two distinct scores")
        if sorted(self.levels) != self.levels:
            raise ValueError("levels must be in ascending order")
        if len(self.labels) != len(self.levels) or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct, one for each level")
        if not self.dimensions or len({d.name for d in self.dimensions}) != len(self.dimensions):
            raise ValueError("dimensions must have distinct names")
        if not any(dimension.weight for dimension in self.dimensions):
            raise ValueError("the weights of the dimensions must not all be 0")
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
    return parse_settings(Rubric, read_yaml(path), f"{path} is not a valid rubric")
