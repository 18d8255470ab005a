"""Judges that see neither prompt nor image, and what a judge is to the rules.

Shapes: N images, P pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from zreward_core.commands.benchmark.image_files import ImageFiles
from zreward_core.commands.benchmark.tables import SetImage

FIRST = "first image"
SAME = "same score"
LARGER = "larger file"
SHORTER = "shorter prompt"


class Decisions(NamedTuple):
    """A judge on pairs: difference of its two scores, above 0 if the pair's first is better."""

    listed: np.ndarray
    """[P] shown in the order of the annotation file."""
    swapped: np.ndarray
    """[P] shown in the other order."""


def by_score(scores_N: np.ndarray, pairs: pd.DataFrame) -> Decisions:
    """A judge that scores each image by itself: the order of the pair has no effect."""
    listed_P = scores_N[pairs["first"].to_numpy(int)] - scores_N[pairs["second"].to_numpy(int)]
    return Decisions(listed_P, listed_P)


def first_image(number: int) -> Decisions:
    """The judge that always prefers the image that it is shown first."""
    return Decisions(np.ones(number), -np.ones(number))


def same_score(number: int) -> np.ndarray:
    """The judge that gives all images one score."""
    return np.zeros(number)


def larger_file(images: Sequence[SetImage], files: ImageFiles) -> np.ndarray:
    """The judge that scores an image by the size of its file: [N] bytes."""
    return np.array([files.size(image) for image in images], dtype=float)


def shorter_prompt(images: Sequence[SetImage]) -> np.ndarray:
    """The judge that prefers images of short prompts: [N] words, negated."""
    return np.array([-len((image.prompt or "").split()) for image in images], dtype=float)
