"""Templates of the pixel oracle: every object in every state, position, size and blur.

T templates of N = 16 x 16 pixels; each is the coverage of an object times its shading.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil

import numpy as np
from scipy.ndimage import gaussian_filter

from zreward_core.world.prompts import SHAPES
from zreward_core.world.rendering import SHADING
from zreward_core.world.silhouettes import DIAMETER, NUM_VARIANTS, drawing, sample

CELL = 16
"""Side of a cell's window on the canonical grid, in pixels."""
SIGMAS = (0.0, 0.5, 1.0, 1.7, 2.7, 4.0)
"""Blur of the banks, in pixels of the canonical grid."""
STATES = (
    ("whole", 0, 0),
    *(
        (integrity, level, variant)
        for integrity in ("broken", "melted")
        for level in (1, 2, 3)
        for variant in range(NUM_VARIANTS[integrity])
    ),
)
"""Integrity, level and variant."""

_OFFSETS = (-1.2, -0.6, 0.0, 0.6, 1.2)
_SCALES = (0.94, 1.0, 1.06)
_PAD = 4
_REACH = 0.84


@dataclass(frozen=True)
class Template:
    """One object in one state, position and size."""

    shape: int
    """Index in ``SHAPES``."""
    state: int
    """Index in ``STATES``."""
    x: float
    y: float
    """Offset from the centre of the window in pixels."""
    scale: float


@lru_cache(maxsize=1)
def templates() -> tuple[Template, ...]:
    """The T templates, in the order of the banks."""
    return tuple(
        Template(shape, state, x, y, scale)
        for shape, state, scale, y, x in product(
            range(len(SHAPES)), range(len(STATES)), _SCALES, _OFFSETS, _OFFSETS
        )
    )


@lru_cache(maxsize=1)
def groups() -> np.ndarray:
    """Index of the first template of each (shape, state) group; groups are contiguous."""
    return np.arange(len(SHAPES) * len(STATES)) * len(_SCALES) * len(_OFFSETS) ** 2


@lru_cache(maxsize=len(SIGMAS))
def bank(sigma_index: int) -> np.ndarray:
    """Templates [T, N] of unit norm at one blur."""
    padded = gaussian_filter(
        _sharp(), (0, SIGMAS[sigma_index], SIGMAS[sigma_index]), mode="constant"
    )
    inner = padded[:, _PAD:-_PAD, _PAD:-_PAD].reshape(len(padded), -1)
    return inner / np.linalg.norm(inner, axis=1, keepdims=True)


@lru_cache(maxsize=1)
def coarse() -> tuple[np.ndarray, np.ndarray]:
    """A sparse subset of the templates: their indices [K] and all banks [len(SIGMAS), K, N]."""
    far = (_OFFSETS[0], 0.0, _OFFSETS[-1])
    index = np.array(
        [
            number
            for number, template in enumerate(templates())
            if template.scale == 1.0 and template.x in far and template.y in far
        ]
    )
    return index, np.stack([bank(sigma)[index] for sigma in range(len(SIGMAS))])


def coverage(
    shape: str,
    state: tuple[str, int, int],
    centre: tuple[float, float],
    scale: float,
    width: int,
    height: int,
) -> np.ndarray:
    """Sharp coverage [height, width] of one object on the canonical grid.

    Args:
        shape: of the object.
        state: integrity, level and variant.
        centre: (x, y) in pixels.
        scale: size relative to the nominal one.
        width, height: of the grid.
    """
    reach = _REACH * CELL
    left, top = max(0, ceil(centre[0] - reach)), max(0, ceil(centre[1] - reach))
    right, bottom = min(width, int(centre[0] + reach)), min(height, int(centre[1] + reach))
    whole = np.zeros((height, width), dtype=np.float32)
    whole[top:bottom, left:right] = sample(
        drawing(shape, *state),
        (centre[0] - left, centre[1] - top),
        CELL * scale,
        right - left,
        bottom - top,
    )
    return whole


def shading(centre: tuple[float, float], width: int, height: int) -> np.ndarray:
    """Shading [height, width] of an object: brighter towards the upper left, 1 at its centre."""
    x = (np.arange(width, dtype=np.float32) + 0.5 - centre[0]) / CELL
    y = (np.arange(height, dtype=np.float32) + 0.5 - centre[1]) / CELL
    return np.clip(1 - SHADING * (x[None, :] + y[:, None]) / DIAMETER, 0.5, 1.5)


@lru_cache(maxsize=1)
def _sharp() -> np.ndarray:
    """Templates [T, CELL + 2 pad, CELL + 2 pad] without blur, float32."""
    side = CELL + 2 * _PAD
    stack = np.empty((len(templates()), side, side), dtype=np.float32)
    for number, template in enumerate(templates()):
        centre = (side / 2 + template.x, side / 2 + template.y)
        image = drawing(SHAPES[template.shape], *STATES[template.state])
        alpha = sample(image, centre, CELL * template.scale, side, side)
        stack[number] = alpha * shading(centre, side, side)
    return stack
