"""The pixel oracle: judges an image from its pixels and its prompt alone.

It stands where a real project has human eyes. Nothing in it is learned and it sees no scene: a
image of any size is brought to a canonical grid, explained as background plus one object a cell
(``perception``), and what was measured is priced by the rubric below (``data/rubric.yaml`` says the
same in words). Scores are continuous: a slightly better image gets a slightly better score.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zreward_core.world.inspection import verdicts
from zreward_core.world.perception import Perception, perceive
from zreward_core.world.prompts import COLOURS, SHAPES, Cells, Thing, parse_prompt
from zreward_core.world.scenes import ASPECTS

FLAG = 0.5
"""A defect counts as seen from this severity on."""
MISSING, SWAPPED, RECOLORED, EXTRA = 1.75, 1.25, 1.0, 0.75
"""Points off alignment for each cell; one cell never costs more than a missing object."""
PENALTIES = {
    "noise": (0.0, 0.75, 1.75, 3.0),
    "blur": (0.0, 1.0, 2.0, 3.5),
    "washed": (0.0, 0.75, 1.75, 3.0),
    "cast": (0.0, 1.0, 2.0, 3.25),
    "broken": (0.0, 0.75, 1.25, 2.0),
    "melted": (0.0, 0.5, 1.0, 1.5),
}
"""Points off for severities 0 to 3; for broken and melted, of each object."""
MISFIT = 1.5
"""Points off plausibility for each object that has no known form at all."""
MINIMUM, MAXIMUM = 1.0, 5.0


@dataclass(frozen=True)
class Judgement:
    """What the oracle makes of an image."""

    scores: dict[str, float]
    """Score of each aspect, 1 to 5."""
    cells: Cells
    """The object seen in each cell."""
    verdicts: tuple[str, ...]
    """For each cell: fine, recolored, swapped, missing or extra."""
    integrity: tuple[str, ...]
    """For each cell: nothing, whole, broken or melted."""
    severities: dict[str, float]
    """By kind. Alignment kinds count cells, fractions meaning doubt; the others run from 0 to 3,
    broken and melted being those of the worst object."""


def judge(pixels: np.ndarray, prompt: str) -> Judgement:
    """Judge one image.

    Args:
        pixels: [H, W, 3] uint8, any size from 8 x 8.
        prompt: what the image was made for.

    Raises:
        ValueError: the prompt is none of the miniature world, or pixels have another form.
    """
    expected = parse_prompt(prompt)
    if expected is None:
        raise ValueError(
            f"the pixel oracle judges prompts of the miniature world only, not {prompt!r};"
            " have images of other prompts judged by people"
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
    # An image with nothing to recognise is no good image of anything.
    recognised = float(np.clip(2 * max(seen.presence * (1 - seen.misfit)), 0, 1))
    scores = {}
    for aspect in ASPECTS:
        score = np.clip(MAXIMUM - penalties[aspect], MINIMUM, MAXIMUM)
        scores[aspect] = float(MINIMUM + recognised * (score - MINIMUM))
    cells = _cells(seen)
    return Judgement(scores, cells, _verdicts(seen, expected), _integrity(seen), severities)


def judge_many(images: Iterable[np.ndarray], prompts: Iterable[str]) -> list[Judgement]:
    """Judge images one after the other; the two iterables have the same length."""
    return [judge(pixels, prompt) for pixels, prompt in zip(images, prompts, strict=True)]


def _price(kind: str, severity: float) -> float:
    return float(np.interp(severity, range(4), PENALTIES[kind]))


def _alignment(seen: Perception, expected: Cells) -> tuple[dict[str, float], float]:
    """Expected number of cells by alignment kind, and the points they cost."""
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
        # A stain is a failed object where one was asked for, and nothing elsewhere.
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


def _verdicts(seen: Perception, expected: Cells) -> tuple[str, ...]:
    return tuple(verdicts(expected, _cells(seen)))


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
