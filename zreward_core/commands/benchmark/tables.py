"""What the readers return: images with prompts, and people's judgements of them.

Shapes: N images, P pairs, R annotators.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd


class ImageCell(NamedTuple):
    """An image inside a Parquet file, as `datasets` stores it: ``{bytes, path}``."""

    file: Path
    row: int
    column: str


@dataclass(frozen=True)
class SetImage:
    """An image of a set."""

    prompt: str | None
    """None where the file has no prompts."""
    place: str
    """File and row of the annotation that names it, for messages."""
    names: tuple[str, ...] = ()
    """Paths at which it can be, best first; the last is the one in the annotation file."""
    cell: ImageCell | None = None
    """Its place in a Parquet file."""

    @property
    def name(self) -> str:
        """Its name in the annotation file."""
        return self.names[-1] if self.cell is None else self.cell.column


@dataclass
class ImageList:
    """Distinct images, in the order in which they were added."""

    images: list[SetImage] = field(default_factory=list)
    _index: dict[tuple, int] = field(default_factory=dict)

    def add(self, image: SetImage) -> int:
        """The position of an image; one that is there already is not added again."""
        key = (image.prompt, image.names, image.cell)
        if key not in self._index:
            self._index[key] = len(self.images)
            self.images.append(image)
        return self._index[key]


class Pair(NamedTuple):
    """Two images of a prompt, in the order of the annotation file."""

    place: str
    """File and row."""
    prompt: str
    """Key of the prompt; all pairs of a prompt are resampled together."""
    first: int
    second: int
    """Positions of the images."""
    label: float
    """1: the first is preferred; -1: the second; 0: neither."""
    both_bad: bool = False
    """Neither, because both are bad."""
    subset: str = ""
    """Part of the set that is also reported by itself."""
    ranking: int = -1
    """Number of the ranking that the pair is taken from."""
    confidence: float = float("nan")
    """Confidence that the set gives to the label."""


@dataclass(frozen=True)
class PairSet:
    """Pairs of images, and which one people prefer."""

    images: list[SetImage]
    pairs: pd.DataFrame
    """[P] columns of ``Pair``."""
    votes: np.ndarray
    """[P, R] vote of each annotator: above 0, the first is preferred; NaN: none. R is 0 where the
    set does not give its annotators."""
    notes: list[str] = field(default_factory=list)
    """Facts about the files that a reader of the figures needs."""


@dataclass(frozen=True)
class RatedSet:
    """Images with absolute ratings."""

    images: list[SetImage]
    scores: np.ndarray
    """[N, R] score by each annotator; NaN: none."""
    written: np.ndarray
    """[N] mean of the scores as they are written in the file, out of range or not."""
    notes: list[str] = field(default_factory=list)
    """Facts about the files that a reader of the figures needs."""


def pair_set(
    images: ImageList, pairs: Sequence[Pair], votes: Sequence[Sequence[float]], notes: list[str]
) -> PairSet:
    """A set of the rows that a reader has collected.

    Args:
        votes: the annotators' votes on each pair, of any number; empty where there are none.
    """
    frame = pd.DataFrame(pairs, columns=Pair._fields)
    return PairSet(images.images, frame, padded(votes or [[]] * len(pairs)), notes)


def padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Lists of numbers as a matrix; shorter lists are filled with NaN."""
    matrix = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = row
    return matrix
