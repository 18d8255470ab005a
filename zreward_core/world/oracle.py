"""The pixel oracle: scores an image from only its pixels and its prompt.

It replaces human perception in the miniature. No part of it is learned and it has no access to the
scene: an image of any size is resized to a canonical grid and decomposed into a background and one
object per cell (``perception``), and the measured defects are converted to points by the penalties
below, which follow ``data/rubric.yaml``. Scores are continuous in the quality of the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zreward_core.world.inspection import verdicts
from zreward_core.world.perception import Perception, perceive
from zreward_core.world.prompts import COLOURS, SHAPES, Cells, Thing, parse_prompt
from zreward_core.world.scenes import ASPECTS

FLAG = 0.5
"""Severity from which a defect is reported."""
MISSING, SWAPPED, RECOLORED, EXTRA = 1.75, 1.25, 1.0, 0.75
"""Alignment points deducted per cell; a cell never costs more than a missing object."""
PENALTIES = {
    "noise": (0.0, 0.75, 1.75, 3.0),
    "blur": (0.0, 1.0, 2.0, 3.5),
    "washed": (0.0, 0.75, 1.75, 3.0),
    "cast": (0.0, 1.0, 2.0, 3.25),
    "broken": (0.0, 0.75, 1.25, 2.0),
    "melted": (0.0, 0.5, 1.0, 1.5),
}
"""Points deducted at severities 0 to 3; for broken and melted, per object."""
MISFIT = 1.5
"""Plausibility points deducted per object without a recognisable form."""
MINIMUM, MAXIMUM = 1.0, 5.0


@dataclass(frozen=True)
class Judgement:
    """The oracle's judgement of an image."""

    scores: dict[str, float]
    """Score of each aspect, 1 to 5."""
    cells: Cells
    """The object recognised in each cell."""
    verdicts: tuple[str, ...]
    """For each cell: fine, recolored, swapped, missing or extra."""
    integrity: tuple[str, ...]
    """For each cell: nothing, whole, broken or melted."""
    severities: dict[str, float]
    """By kind. Alignment kinds are (expected) numbers of cells; the others run from 0 to 3, for
    broken and melted those of the worst object."""


def judge(pixels: np.ndarray, prompt: str) -> Judgement:
    """Judge one image.

    Args:
        pixels: [H, W, 3] uint8, any size from 8 x 8.
        prompt: the image's prompt.

    Raises:
        ValueError: not a prompt of the miniature world, or a wrong shape of the pixels.
    """
    expected = parse_prompt(prompt)
    if expected is None:
        raise ValueError(
            f"{prompt!r}: the pixel oracle supports prompts of the miniature world only;"
            " have images of other prompts rated by annotators"
        )
    seen = perceive(pixels, expected)
    counts, alignment = _alignment(seen, expected)
    severities = counts | {
        "noise": seen.noise,
        "blur": seen.blur,
        "washed": seen.washed,
        "cast": seen.cast,
        "broken": float(max(seen.broken * seen.presence)),
        "melted": float(max(seen.melted * seen.presence)),
    }
    penalties = {
        "alignment": alignment,
        "realism": _price("noise", seen.noise) + _price("blur", seen.blur),
        "aesthetics": _price("washed", seen.washed) + _price("cast", seen.cast),
        "plausibility": _plausibility(seen, expected),
    }
    # An image without a recognisable object gets the lowest score in every aspect.
    recognised = float(np.clip(2 * max(seen.presence * (1 - seen.misfit)), 0, 1))
    scores = {}
    for aspect in ASPECTS:
        score = np.clip(MAXIMUM - penalties[aspect], MINIMUM, MAXIMUM)
        scores[aspect] = float(MINIMUM + recognised * (score - MINIMUM))
    cells = _cells(seen)
    return Judgement(scores, cells, tuple(verdicts(expected, cells)), _integrity(seen), severities)


def judge_many(images: Iterable[np.ndarray], prompts: Iterable[str]) -> list[Judgement]:
    """Judge images in sequence; the two iterables have the same length."""
    return [judge(pixels, prompt) for pixels, prompt in zip(images, prompts, strict=True)]


def _price(kind: str, severity: float) -> float:
    return float(np.interp(severity, range(4), PENALTIES[kind]))


def _alignment(seen: Perception, expected: Cells) -> tuple[dict[str, float], float]:
    """Expected number of cells by alignment kind, and the points deducted."""
    counts = dict.fromkeys(("recolored", "swapped", "missing", "extra"), 0.0)
    points = 0.0
    for cell, wanted in enumerate(expected):
        present = float(seen.presence[cell])
        if wanted is None:
            counts["extra"] += present
            points += EXTRA * present
            continue
        swapped = 1 - float(seen.shape_shares[cell, SHAPES.index(wanted.shape)])
        recolored = 1 - float(seen.colour_shares[cell, COLOURS.index(wanted.colour)])
        counts["missing"] += 1 - present
        counts["swapped"] += present * swapped
        counts["recolored"] += present * (1 - swapped) * recolored
        wrong = min(MISSING, SWAPPED * swapped + RECOLORED * recolored)
        points += MISSING * (1 - present) + present * wrong
    return counts, points


def _plausibility(seen: Perception, expected: Cells) -> float:
    points = 0.0
    for cell, wanted in enumerate(expected):
        damage = _price("broken", seen.broken[cell]) + _price("melted", seen.melted[cell])
        # A stain is a malformed object if the prompt has one in this cell; otherwise it is ignored.
        weight = seen.presence[cell] if wanted is None else seen.body[cell]
        points += weight * max(damage, MISFIT * seen.misfit[cell])
    return float(points)


def _cells(seen: Perception) -> Cells:
    cells = [
        Thing(COLOURS[seen.colour_shares[cell].argmax()], SHAPES[seen.shape_shares[cell].argmax()])
        if seen.presence[cell] >= FLAG
        else None
        for cell in range(4)
    ]
    return cells[0], cells[1], cells[2], cells[3]


def _integrity(seen: Perception) -> tuple[str, ...]:
    words = []
    for cell in range(4):
        broken, melted = seen.broken[cell], seen.melted[cell]
        if seen.presence[cell] < FLAG:
            words.append("nothing")
        elif max(broken, melted) < FLAG:
            words.append("whole")
        else:
            words.append("broken" if broken >= melted else "melted")
    return tuple(words)
