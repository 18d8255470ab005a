"""Scores of image files for a prompt."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zreward_core.config import UserError, writable
from zreward_core.images import read_image

IMAGES_TOGETHER = 64
"""Images in memory at a time."""


def score_files(
    images: Sequence[Path], model: str, prompt: str, dtype: str = "auto", device: str = "auto"
) -> list[dict[str, Any]]:
    """For each image its path and either its scores, overall and by dimension, or its error.

    Args:
        images: image files.
        prompt: the prompt of all images.
        model, dtype, device: see ``RewardModel.from_pretrained``.

    Raises:
        UserError: the model cannot be loaded, or the prompt is too long for it.
    """
    from zreward_core import RewardModel

    reward = RewardModel.from_pretrained(model, device, dtype)
    results: list[dict[str, Any]] = []
    for start in range(0, len(images), IMAGES_TOGETHER):
        found = [_read(path) for path in images[start : start + IMAGES_TOGETHER]]
        pixels = [one for one in found if isinstance(one, np.ndarray)]
        scores = reward.score([prompt] * len(pixels), pixels)
        rows = iter(zip(scores.overall.tolist(), scores.rows(), strict=True))
        for path, one in zip(images[start:], found, strict=False):
            result: dict[str, Any] = {"image": writable(str(path))}
            if isinstance(one, np.ndarray):
                result["overall"], result["dimensions"] = next(rows)
            else:
                result["error"] = str(one)
            results.append(result)
    return results


def shown(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of the results that have scores."""
    for result in results:
        if "dimensions" not in result:
            continue
        yield result["image"]
        for name, value in result["dimensions"].items():
            yield f"  {name:<14} {value['mean']:.2f} ± {value['std']:.2f}"
        yield f"  {'overall':<14} {result['overall']:.2f}"


def _read(path: Path) -> np.ndarray | UserError:
    try:
        return read_image(path)[1]
    except UserError as error:
        return error
