"""Rendering of scenes: smooth background, shaded objects with shadows, then graded defects."""

import colorsys
from math import ceil

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from zreward_core.world.prompts import Thing
from zreward_core.world.scenes import CAST_HUES, Placement, Scene
from zreward_core.world.silhouettes import drawing, sample, shadow

PALETTE = {
    "red": (0.86, 0.20, 0.20),
    "yellow": (0.95, 0.76, 0.10),
    "green": (0.22, 0.66, 0.28),
    "cyan": (0.10, 0.72, 0.80),
    "blue": (0.18, 0.34, 0.86),
    "purple": (0.60, 0.22, 0.74),
}
"""Colours of objects before shading, RGB from 0 to 1."""
NOISE = (0.0, 0.08, 0.15, 0.27)
"""Standard deviation of the grain's brightness at each level, for pixel values in [0, 1]."""
BLUR = (0.0, 1.0, 1.7, 2.7)
"""Gaussian sigma at each level, in pixels of an image with a short side of 32."""
WASHED = (0.0, 0.34, 0.54, 0.74)
"""Share of grey in every pixel at each level."""
CAST = (0.0, 0.14, 0.27, 0.44)
"""Strength of the colour filter applied to the image at each level."""
GREY = 0.80
"""Brightness towards which washed-out images fade."""
GRAIN_COLOUR = 0.35
"""Standard deviation of the grain's colour relative to that of its brightness."""

SHADING = 0.16
_SHADOW_STRENGTH = 0.28
_SHADOW_SHIFT = 0.075
_RESIZED_GRAIN = 1.65
"""Compensates for the loss of grain by resizing."""
_REACH = 0.84
"""Half side of the square that contains an object, in units of a cell."""


def render(scene: Scene, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Pixels [H, W, 3] uint8 of a scene.

    Args:
        scene: content and defects.
        size: (width, height) in pixels, from 32 x 32 upwards.
    """
    width, height = size
    levels = {defect.kind: defect for defect in scene.defects if not defect.cells}
    rows = np.linspace(*scene.brightness, height, dtype=np.float32)
    canvas: np.ndarray = np.empty((height, width, 3), dtype=np.float32)
    canvas[:] = rows[:, None, None] * np.array([1.0, 0.998, 0.99], dtype=np.float32)
    integrity = {
        cell: (defect.kind, defect.level, defect.variant)
        for defect in scene.defects
        if defect.aspect == "plausibility"
        for cell in defect.cells
    }
    for cell, thing in enumerate(scene.seen):
        if thing is not None:
            state = integrity.get(cell, ("whole", 0, 0))
            _draw(canvas, cell, thing, scene.placements[cell], state)
    if "washed" in levels:
        share = WASHED[levels["washed"].level]
        canvas = (1 - share) * canvas + share * GREY
    if "cast" in levels:
        canvas = canvas * cast_gains(levels["cast"].level, levels["cast"].variant)
    if "blur" in levels:
        sigma = BLUR[levels["blur"].level] * min(size) / 32
        canvas = gaussian_filter(canvas, (sigma, sigma, 0), mode="nearest")
    if "noise" in levels:
        canvas = canvas + NOISE[levels["noise"].level] * _grain(scene.grain_seed, width, height)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def cast_gains(level: int, variant: int) -> np.ndarray:
    """Factors [3] of a colour cast on red, green and blue."""
    tint = np.array(colorsys.hsv_to_rgb(CAST_HUES[variant] / 360, 1.0, 1.0))
    return (1 + CAST[level] * (tint - 0.85)).astype(np.float32)


def _draw(
    canvas: np.ndarray,
    cell: int,
    thing: Thing,
    placement: Placement,
    state: tuple[str, int, int],
) -> None:
    """Draw one object and its shadow on the canvas, in place."""
    height, width = canvas.shape[:2]
    unit = min(width, height) / 2
    x = width * (0.25 + 0.5 * (cell % 2)) + placement.x * unit
    y = height * (0.25 + 0.5 * (cell // 2)) + placement.y * unit
    left, top = max(0, ceil(x - _REACH * unit)), max(0, ceil(y - _REACH * unit))
    right = min(width, int(x + _REACH * unit))
    bottom = min(height, int(y + _REACH * unit))
    window = canvas[top:bottom, left:right]
    num_columns, num_rows = right - left, bottom - top
    scaled = unit * placement.scale
    image, dark = drawing(thing.shape, *state), shadow(thing.shape, *state)
    alpha = sample(image, (x - left, y - top), scaled, num_columns, num_rows)
    shift = _SHADOW_SHIFT * unit
    shade = sample(dark, (x + shift - left, y + shift - top), scaled, num_columns, num_rows)
    columns = (np.arange(num_columns, dtype=np.float32) + 0.5 + left - x) / unit
    lines = (np.arange(num_rows, dtype=np.float32) + 0.5 + top - y) / unit
    light = placement.tone * (1 - SHADING * (columns[None, :] + lines[:, None]) / 0.75)
    window *= 1 - _SHADOW_STRENGTH * shade[..., None]
    colour = np.array(PALETTE[thing.colour], dtype=np.float32)
    window += alpha[..., None] * (light[..., None] * colour - window)


def _grain(seed: int, width: int, height: int) -> np.ndarray:
    """Unit grain [H, W, 3], generated at a short side of 32 pixels so that resizing keeps it."""
    rng = np.random.default_rng(seed)
    scale = 32 / min(width, height)
    shape = (round(height * scale), round(width * scale))
    brightness = rng.standard_normal((*shape, 1), dtype=np.float32)
    grain = brightness + GRAIN_COLOUR * rng.standard_normal((*shape, 3), dtype=np.float32)
    if min(width, height) % 32 == 0:
        factor = min(width, height) // 32
        return grain.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    grain *= _RESIZED_GRAIN
    return np.stack(
        [
            np.asarray(
                Image.fromarray(grain[..., channel]).resize(
                    (width, height), Image.Resampling.BICUBIC
                )
            )
            for channel in range(3)
        ],
        axis=2,
    )
