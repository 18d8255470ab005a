"""Exemplars: images with agreed scores for calibrating annotators.

A folder contains the images and exemplars.json, a list of {"image": file name, "prompt": text,
"scores": {dimension: level}, "why": {dimension: text}}; an image may be an exemplar of some
dimensions only, and "why" is optional. data/rubric.yaml names the folder.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from zreward_core.config import Settings, UserError
from zreward_core.rubric import Rubric
from zreward_core.schemas import read_json, write_json

FILE = "exemplars.json"
CLEAR = 0.3
"""Largest distance of a score from its level, as a share of the gap between levels."""


class Exemplar(Settings):
    """One image."""

    image: str
    """File name in the folder."""
    prompt: str = ""
    """The image's prompt."""
    scores: dict[str, float]
    """Dimension to the level that the image exemplifies."""
    why: dict[str, str] = Field(default_factory=dict)
    """Dimension to an explanation of the score."""


def pick_levels(
    scores: dict[str, float], counts: Counter[tuple[str, float]], rubric: Rubric, per_level: int
) -> dict[str, float]:
    """The levels that an image exemplifies and that still need exemplars.

    Args:
        scores: a score of each dimension, on the rubric's scale.
        counts: exemplars so far by dimension and level.
        rubric: gives the levels.
        per_level: exemplars that a level needs.
    """
    levels, chosen = np.asarray(rubric.levels), {}
    for name, score in scores.items():
        place = int(np.abs(levels - score).argmin())
        level = float(levels[place])
        gap = float(np.diff(levels[max(0, place - 1) : place + 2]).min())
        if abs(level - score) <= CLEAR * gap and counts[name, level] < per_level:
            chosen[name] = level
    return chosen


def collect(
    samples: Iterable[Any],
    scores_of: Callable[[Any], dict[str, float]],
    rubric: Rubric,
    per_level: int,
    max_samples: int,
) -> list[tuple[Any, dict[str, float]]]:
    """Collect samples until every level of every dimension has enough exemplars.

    Args:
        samples: images of any kind, in a fixed order.
        scores_of: a sample's score of each dimension, on the rubric's scale.
        rubric: gives dimensions and levels.
        per_level: exemplars that a level needs.
        max_samples: stop after this many samples, even if levels still lack exemplars.

    Returns:
        Samples with the levels that they exemplify.
    """
    counts: Counter[tuple[str, float]] = Counter()
    wanted = per_level * len(rubric.levels) * len(rubric.dimensions)
    kept = []
    for number, sample in enumerate(samples):
        if counts.total() >= wanted or number >= max_samples:
            break
        chosen = pick_levels(scores_of(sample), counts, rubric, per_level)
        counts.update(chosen.items())
        if chosen:
            kept.append((sample, chosen))
    return kept


def write_exemplars(exemplars: list[tuple[Exemplar, bytes]], folder: Path) -> None:
    """Write the images and the list."""
    folder.mkdir(parents=True, exist_ok=True)
    for exemplar, content in exemplars:
        (folder / exemplar.image).write_bytes(content)
    write_json([exemplar.model_dump() for exemplar, _ in exemplars], folder / FILE)


def load_exemplars(folder: Path, rubric: Rubric) -> list[Exemplar]:
    """Read the list of a folder.

    Raises:
        UserError: the list or an image is missing, or a score is not a level of the rubric.
    """
    file = folder / FILE
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} must be a list of objects with image, prompt and scores")
    exemplars = []
    for number, row in enumerate(rows, start=1):
        try:
            exemplar = Exemplar(**row)
        except (ValidationError, TypeError) as error:
            raise UserError(f"{file} entry {number}: {_first_line(error)}") from None
        fault = _fault(exemplar, folder, rubric)
        if fault:
            raise UserError(f"{file} entry {number} ({exemplar.image}): {fault}")
        exemplars.append(exemplar)
    return exemplars


def _fault(exemplar: Exemplar, folder: Path, rubric: Rubric) -> str | None:
    if Path(exemplar.image).name != exemplar.image or not (folder / exemplar.image).is_file():
        return f"no such file in {folder}; add it or remove the entry"
    unknown = sorted({*exemplar.scores, *exemplar.why} - set(rubric.names))
    if unknown:
        return f"the rubric has no dimension {unknown[0]!r}; it has {', '.join(rubric.names)}"
    off = [score for score in exemplar.scores.values() if score not in rubric.levels]
    return f"{off[0]:g} is not a level of the rubric; correct the score" if off else None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return str(error)
