"""Perception of the pixel oracle: a decomposed image on the scales of the world's levels.

Shapes: C = 4 cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from zreward_core.world.decomposition import OPPONENT, Decomposition, decompose
from zreward_core.world.prompts import COLOURS, SHAPES, Cells
from zreward_core.world.rendering import CAST, PALETTE, WASHED, cast_gains
from zreward_core.world.scenes import CAST_HUES
from zreward_core.world.silhouettes import NUM_VARIANTS
from zreward_core.world.templates import STATES

_REFERENCE = np.array([PALETTE[name] for name in COLOURS], dtype=np.float32) @ OPPONENT / 0.9
_REFERENCE_ANGLES = np.arctan2(_REFERENCE[:, 1], _REFERENCE[:, 0])
_REFERENCE_STRENGTHS = np.linalg.norm(_REFERENCE, axis=1)

_PRESENCE = (0.10, 0.20)
"""Colour strength, relative to the palette's, from which an object is seen partly, and fully."""
_FORM = (0.25, 0.5)
"""Explained share of a cell's colour from which a stain is an object partly, and fully."""
_ANGLE_SPREAD = np.deg2rad(11)
_SHARPNESS = 300.0
"""Inverse temperature of the softmax over fits."""
_MISFIT = (0.12, 0.75)
"""Unexplained share of a cell's colour from which an object's form fails partly, and fully."""
_DEAD_ZONE = 0.35
"""Smaller severities are not perceived."""


@dataclass(frozen=True)
class Perception:
    """Measured content and defects; severities run from 0 to 3."""

    noise: float
    blur: float
    washed: float
    cast: float
    presence: np.ndarray
    """[C] 0 (no object in the cell) to 1."""
    body: np.ndarray
    """[C] 0 (no colour in the cell) to 1 (an object or a stain)."""
    shape_shares: np.ndarray
    """[C, len(SHAPES)], each row sums to one."""
    colour_shares: np.ndarray
    """[C, len(COLOURS)], each row sums to one."""
    broken: np.ndarray
    melted: np.ndarray
    """[C] severities."""
    misfit: np.ndarray
    """[C] 0 (a known form) to 1 (none)."""
    strength: np.ndarray
    """[C] colour strength relative to the palette's."""
    fit: np.ndarray
    """[C] explained share of the colour in the cell."""


def perceive(pixels: np.ndarray, expected: Cells) -> Perception:
    """Measure objects and defects of an image.

    Args:
        pixels: [H', W', 3] uint8.
        expected: content according to the prompt, assumed where a form cannot be recognised.

    Raises:
        ValueError: the array has a different shape.
    """
    return _measure(decompose(pixels), expected)


def _measure(found: Decomposition, expected: Cells) -> Perception:
    """Convert the measurements to the scales of the world's levels."""
    angles = np.arctan2(found.colours[:, 1], found.colours[:, 0])[:, None] - _REFERENCE_ANGLES
    angles = np.abs((angles + np.pi) % (2 * np.pi) - np.pi)
    colour_shares = softmax(-0.5 * np.square(angles / _ANGLE_SPREAD), axis=-1)
    strength = np.linalg.norm(found.colours, axis=1) / (colour_shares @ _REFERENCE_STRENGTHS)
    body = _ramp(strength, _PRESENCE)
    signal = np.maximum(np.maximum(found.energy - found.grain, 0.3 * found.energy), 1e-6)
    explained = found.explained / signal[:, None, None]
    fit = np.minimum(explained.max((1, 2)), 1)
    presence = body * _ramp(fit, _FORM)
    shares = _form_shares(explained, fit, found.sigma, expected)
    states = shares.sum(1)
    seen = presence > 0.5
    cast = np.linalg.norm(found.background.mean((0, 1)) @ OPPONENT) / found.background.mean()
    washed = 1 - float(np.median(strength[seen])) if seen.any() else 1.0
    return Perception(
        noise=_severity(float(np.hypot(found.noise, found.stains)), _NOISE_KNOTS),
        blur=_severity(found.sigma, _BLUR_KNOTS),
        washed=_severity(washed, WASHED),
        cast=_severity(float(cast), _CAST_KNOTS),
        presence=presence,
        body=body,
        shape_shares=shares.sum(2),
        colour_shares=colour_shares,
        broken=_visible(states @ _LEVELS["broken"]),
        melted=_visible(states @ _LEVELS["melted"]),
        misfit=_ramp(1 - fit - found.noise, _MISFIT),  # grain roughens outlines
        strength=strength,
        fit=fit,
    )


def _form_shares(
    explained: np.ndarray, fit: np.ndarray, sigma: float, expected: Cells
) -> np.ndarray:
    """Probabilities [C, shapes, states] of each cell's shape and state, summing to one per cell.

    If blur or a poor fit hides the form, an intact object of the expected shape is assumed.
    """
    doubt = 0.002 + 0.002 * sigma**2 + 0.05 * (1 - fit)
    favoured = explained.copy()
    favoured[:, :, 0] += doubt[:, None]
    for cell, thing in enumerate(expected):
        if thing is not None:
            favoured[cell, SHAPES.index(thing.shape)] += doubt[cell]
    # Blur makes forms similar, so small differences get more weight; a poor fit reduces it.
    sharpness = _SHARPNESS * (1 + 1.5 * sigma**2) / (1 + np.square((1 - fit) / 0.08))
    logits = sharpness[:, None, None] * favoured + _LOG_PRIOR
    return softmax(logits.reshape(len(fit), -1), axis=-1).reshape(explained.shape)


def _ramp(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """0 below the first end, 1 above the second, linear between."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)


def _visible(severity: np.ndarray) -> np.ndarray:
    """Severities with a dead zone: 0 below it, unchanged from 1 upwards."""
    return np.where(
        severity < 1, np.clip((severity - _DEAD_ZONE) / (1 - _DEAD_ZONE), 0, 1), severity
    )


def _severity(value: float, knots: tuple[float, ...]) -> float:
    """Severity from 0 to 3, interpolated between the measurements of the levels 0 to 3."""
    return float(_visible(np.array(np.interp(value, knots, range(4)))))


_NOISE_KNOTS = (0.0, 0.08, 0.127, 0.196)
_BLUR_KNOTS = (0.55, 1.1, 1.65, 2.3)
_CAST_KNOTS = tuple(
    float(
        np.mean(
            [
                np.linalg.norm(cast_gains(level, hue) @ OPPONENT) / cast_gains(level, hue).mean()
                for hue in range(len(CAST_HUES))
            ]
        )
    )
    for level in range(len(CAST))
)
_LEVELS = {
    kind: np.array([level if name == kind else 0 for name, level, _ in STATES])
    for kind in ("broken", "melted")
}
_LOG_PRIOR = np.log(
    [0.5 if name == "whole" else 0.5 / 6 / NUM_VARIANTS[name] for name, _, _ in STATES]
)
