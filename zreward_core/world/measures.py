"""Measures of images by the pixel oracle, as tables of numbers.

Shapes: N images, D dimensions, H x W pixels.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from zreward_core.config import UserError
from zreward_core.world.oracle import judge_many
from zreward_core.world.prompts import parse_prompt
from zreward_core.world.scenes import ASPECTS


def oracle_scores(
    images: Iterable[np.ndarray], prompts: Sequence[str], dimensions: Sequence[str] = ASPECTS
) -> np.ndarray:
    """Scores [N, D] of images [H, W, 3] uint8, from pixels and prompts alone.

    Raises:
        UserError: a dimension is not an aspect of the miniature world.
    """
    if unknown := sorted(set(dimensions) - set(ASPECTS)):
        raise UserError(
            f"the pixel oracle does not score {unknown}: turn it off in params.yaml,"
            f" or use a rubric with {list(ASPECTS)}"
        )
    found = judge_many(images, prompts)
    return np.array([[one.scores[name] for name in dimensions] for one in found])


def oracle_figures(images: Sequence[np.ndarray], prompts: Sequence[str]) -> dict[str, float]:
    """Mean score of each aspect; shares of correct colours, shapes and empty cells."""
    judgements = judge_many(images, prompts)
    correct: dict[str, list[bool]] = {"colour": [], "shape": [], "empty_cell": []}
    for judgement, prompt in zip(judgements, prompts, strict=True):
        for seen, wanted in zip(judgement.cells, parse_prompt(prompt) or (), strict=True):
            if wanted is None:
                correct["empty_cell"].append(seen is None)
            else:
                correct["colour"].append(seen is not None and seen.colour == wanted.colour)
                correct["shape"].append(seen is not None and seen.shape == wanted.shape)
    shares = {f"{name}_accuracy": float(np.mean(hits)) for name, hits in correct.items() if hits}
    scores = {
        f"{aspect}_score": float(np.mean([one.scores[aspect] for one in judgements]))
        for aspect in ASPECTS
    }
    return shares | scores
