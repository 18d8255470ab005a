"""Outlines of the objects (whole, broken, melted), drawn once at high resolution and resampled.

Lengths are in units of a cell's side (16 pixels of a 32 x 32 image); x points right, y down.
"""

from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

DIAMETER = 0.75
"""Nominal diameter of an object."""
RESOLUTION = 96
"""Pixels per unit of a high-resolution drawing, which spans two units."""
NUM_VARIANTS = {"whole": 1, "broken": 4, "melted": 3}
"""Number of variants of each integrity: directions of the cut, patterns of the drips."""

_GAP = (0.0, 0.14, 0.18, 0.23)
_SLIDE = (0.0, 0.0, 0.13, 0.24)
_BROKEN_SCALE = (1.0, 0.98, 0.93, 0.86)
_ANGLES = (0.35, 1.15, 1.95, 2.75)
_SAG = (0.0, 0.5, 0.95, 1.45)
_WAVE = (0.0, 0.04, 0.065, 0.09)
_STAR_MELTS = 1.6
"""Additional melting of a star, whose outline is irregular already."""
_SHADOW_BLUR = 0.05


@lru_cache(maxsize=512)
def drawing(shape: str, integrity: str, level: int, variant: int) -> Image.Image:
    """Coverage (0..1, mode F) of one object on a square of 2 x 2 units around its centre."""
    axis = (np.arange(2 * RESOLUTION) + 0.5) / RESOLUTION - 1.0
    x, y = np.meshgrid(axis, axis)
    if integrity == "broken" and level:
        inside = _broken(shape, x, y, level, _ANGLES[variant])
    elif integrity == "melted" and level:
        inside = _melted(shape, x, y, level, 2.1 * variant)
    else:
        inside = _inside(shape, x, y)
    return Image.fromarray(inside.astype(np.float32))


@lru_cache(maxsize=512)
def shadow(shape: str, integrity: str, level: int, variant: int) -> Image.Image:
    """Coverage of the object's shadow: the blurred drawing."""
    coverage = np.asarray(drawing(shape, integrity, level, variant))
    return Image.fromarray(gaussian_filter(coverage, _SHADOW_BLUR * RESOLUTION))


def sample(
    image: Image.Image, centre: tuple[float, float], unit: float, width: int, height: int
) -> np.ndarray:
    """Antialiased coverage [height, width] of a drawing resampled on a grid.

    Args:
        image: from ``drawing`` or ``shadow``.
        centre: (x, y) of the object in pixels; at most one unit is cropped on each side.
        unit: grid pixels per unit.
        width, height: of the grid in pixels, which must lie within the drawing.
    """
    scale = RESOLUTION / unit
    left, top = RESOLUTION - centre[0] * scale, RESOLUTION - centre[1] * scale
    box = (left, top, left + width * scale, top + height * scale)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX, box=box))


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius = DIAMETER / 2
    if shape == "circle":
        return np.hypot(x, y) <= radius
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.88 * radius
    if shape == "triangle":
        return (y <= 0.78 * radius) & (abs(x) * 1.75 <= y + 1.05 * radius)
    angle = np.mod(np.arctan2(x, -y), 2 * np.pi / 5)
    angle = np.minimum(angle, 2 * np.pi / 5 - angle)
    # Between a tip (angle 0) and the next notch (angle pi / 5) the edge is a straight line.
    outer, inner = 1.16 * radius, 0.50 * radius
    notch = inner * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
    across, along = np.hypot(x, y) * np.sin(angle), np.hypot(x, y) * np.cos(angle)
    return notch[0] * (outer - along) - (outer - notch[1]) * across >= 0


def _broken(shape: str, x: np.ndarray, y: np.ndarray, level: int, angle: float) -> np.ndarray:
    """An object cut through its centre, with its halves moved apart and along the cut."""
    normal, along = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
    pieces = np.zeros(x.shape, dtype=bool)
    for side in (-1, 1):
        shift_x = side * (normal[0] * _GAP[level] + along[0] * _SLIDE[level]) / 2
        shift_y = side * (normal[1] * _GAP[level] + along[1] * _SLIDE[level]) / 2
        source_x, source_y = x - shift_x, y - shift_y
        half = side * (source_x * normal[0] + source_y * normal[1]) >= 0
        scale = _BROKEN_SCALE[level]
        pieces |= half & _inside(shape, source_x / scale, source_y / scale)
    return pieces


def _melted(shape: str, x: np.ndarray, y: np.ndarray, level: int, phase: float) -> np.ndarray:
    """An object with a rippled outline, a lowered top and drips at the bottom."""
    radius = DIAMETER / 2
    strength = _STAR_MELTS if shape == "star" else 1.0
    sag, wave = strength * _SAG[level], strength * _WAVE[level]
    drip = 0.5 + 0.5 * np.sin(2 * np.pi * x / (1.0 * radius) + phase)
    below = 1.0 + sag * (drip - 0.35) * 0.85
    above = 1.0 + 0.32 * sag
    centre = -0.10 * radius * sag
    source_y = np.where(y > centre, (y - centre) / below, (y - centre) * above)
    source_x = x + wave * np.sin(2 * np.pi * y / (1.9 * radius) + 1.7 * phase)
    return _inside(shape, source_x, source_y)
