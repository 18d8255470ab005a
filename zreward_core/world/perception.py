"""Pixels explained as a background plus one object a cell: the measurements behind the oracle.

Shapes: H, W the canonical grid (short side 32), C = 4 cells, N = 256 pixels of a cell's window,
K columns of a least-squares fit. Colours are opponent pairs (red-green, yellow-blue), which
shadows and brightness do not touch.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from zreward_core.world.prompts import COLOURS, SHAPES, Cells
from zreward_core.world.rendering import CAST, PALETTE, WASHED, cast_gains
from zreward_core.world.scenes import CAST_HUES
from zreward_core.world.silhouettes import NUM_VARIANTS
from zreward_core.world.templates import (
    CELL,
    SIGMAS,
    STATES,
    bank,
    coarse,
    coverage,
    groups,
    shading,
    templates,
)

SHORT_SIDE = 2 * CELL
_OPPONENT = np.array([[1, -1, 0], [1, 1, -2]], dtype=np.float32).T / np.sqrt([2, 6])
_OPPONENT = _OPPONENT.astype(np.float32)
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
_REFERENCE = np.array([PALETTE[name] for name in COLOURS], dtype=np.float32) @ _OPPONENT / 0.9
_REFERENCE_ANGLES = np.arctan2(_REFERENCE[:, 1], _REFERENCE[:, 0])
_REFERENCE_STRENGTHS = np.linalg.norm(_REFERENCE, axis=1)

_PRESENCE = (0.10, 0.20)
"""Colour strength, relative to the palette's, at which an object begins to be seen, and is seen."""
_FORM = (0.25, 0.5)
"""Explained share of a cell's colour at which a stain begins to count as an object, and does."""
_ANGLE_SPREAD = np.deg2rad(11)
_SHARPNESS = 300.0
"""How decidedly a better fit wins over a worse one."""
_GRAIN_ON_OBJECTS = 1.3
"""Energy of the grain's colour on objects relative to the background, where it is clipped."""
_STAIN_TOLERANCE = 0.03
"""Standard deviation of colour in an empty background that nobody minds."""
_SHEDDING = 0.8
"""Sigma in pixels from which objects shed colour into other cells."""
_MISFIT = (0.12, 0.75)
"""Unexplained share of a cell's colour at which an object's form begins to fail, and has failed."""
_DEAD_ZONE = 0.35
"""Severities below are not seen."""


@dataclass(frozen=True)
class Perception:
    """What was measured; severities run from 0 to 3."""

    noise: float
    blur: float
    washed: float
    cast: float
    presence: np.ndarray
    """[C] 0 (no object in the cell) to 1."""
    body: np.ndarray
    """[C] 0 (no colour in the cell) to 1, be it an object's or a stain's."""
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
    """Measure an image.

    Args:
        pixels: [H', W', 3] uint8.
        expected: what the prompt asks for; where a form cannot be told, it is believed.

    Raises:
        ValueError: the array has another form.
    """
    image = _canonical(pixels)
    background = _border_background(image)
    chroma = (image / background) @ _OPPONENT
    sigma, sigma_index, picks = _estimate_blur(_windows(chroma))
    for _ in range(2 if sigma > _SHEDDING else 1):
        background, colours, covers = _explain(image, picks, sigma)
        chroma = (image / background) @ _OPPONENT
        shed = _others(colours, covers) if sigma > _SHEDDING else 0.0
        windows = _windows(chroma - shed)
        fits, picks = _match(windows, sigma_index)
    background, colours, covers = _explain(image, picks, sigma)
    away = _away(covers)
    grain = 2 * CELL * CELL * np.square([_grain(chroma[..., i], away) for i in (0, 1)]).mean()
    return _measure(
        _Fit(
            energy=np.square(windows).sum((1, 2)),
            grain=_GRAIN_ON_OBJECTS * float(grain),
            explained=fits,
            background=background,
            colours=colours,
            sigma=sigma,
            noise=_grain(image.mean(2), away),
            stains=_stains(image / background - 1, colours, covers, away),
        ),
        expected,
    )


def _canonical(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] float32, 0 to 1, short side 32."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < 8:
        raise ValueError(f"pixels must be [H, W, 3] with H, W >= 8, not {pixels.shape}")
    height, width = pixels.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (max(SHORT_SIDE, round(width * scale)), max(SHORT_SIDE, round(height * scale)))
    if size != (width, height):
        method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        pixels = np.asarray(Image.fromarray(pixels).resize(size, method))
    return pixels.astype(np.float32) / 255


def _plane(height: int, width: int) -> np.ndarray:
    """[H, W, 3] columns of a planar fit: one, x, y."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y], axis=2).astype(np.float32)


def _border_background(image: np.ndarray) -> np.ndarray:
    """Robust planar fit [H, W, 3] to the frame and the cross between the cells."""
    height, width = image.shape[:2]
    plane = _plane(height, width)
    mask = np.zeros((height, width), dtype=bool)
    mask[[0, -1, height // 2 - 1, height // 2]] = True
    mask[:, [0, -1, width // 2 - 1, width // 2]] = True
    columns, values = plane[mask], image[mask]
    weights = np.ones(len(values), dtype=np.float32)
    for _ in range(4):
        weighted = columns * weights[:, None]
        gram = weighted.T @ columns + 1e-3 * np.eye(3, dtype=np.float32)
        coefficients = np.linalg.solve(gram, weighted.T @ values)
        distance = np.linalg.norm(values - columns @ coefficients, axis=1)
        scale = 2.5 * np.median(distance) + 0.01
        weights = 1 / (1 + (distance / scale) ** 4)
    return np.clip(plane @ coefficients, 0.05, 1.5)


def _centres(height: int, width: int) -> list[tuple[int, int]]:
    """(x, y) of the cells' centres."""
    return [
        (round(width * (0.25 + 0.5 * (cell % 2))), round(height * (0.25 + 0.5 * (cell // 2))))
        for cell in range(4)
    ]


def _windows(chroma: np.ndarray) -> np.ndarray:
    """[C, N, 2] colour of each cell; ``chroma`` is [H, W, 2], or [C, H, W, 2] with one per cell."""
    half = CELL // 2
    height, width = chroma.shape[-3:-1]
    layers = chroma if chroma.ndim == 4 else [chroma] * 4
    return np.stack(
        [
            layer[y - half : y + half, x - half : x + half].reshape(-1, 2)
            for layer, (x, y) in zip(layers, _centres(height, width), strict=True)
        ]
    )


def _responses(windows: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Energy [T, C] of each cell's colour that each template of unit norm explains."""
    num_cells = len(windows)
    flat = windows.transpose(2, 0, 1).reshape(2 * num_cells, -1)
    projected = rows @ flat.T
    np.square(projected, out=projected)
    return projected[:, :num_cells] + projected[:, num_cells:]


def _estimate_blur(windows: np.ndarray) -> tuple[float, int, np.ndarray]:
    """Sigma in pixels, the nearest bank, and a first pick [C] of templates."""
    index, rows = coarse()
    num_sigmas, num_rows = rows.shape[:2]
    energies = _responses(windows, rows.reshape(-1, rows.shape[2]))
    energies = energies.reshape(num_sigmas, num_rows, len(windows))
    total = energies.max(1).sum(1)
    best = int(total.argmax())
    position = float(best)
    if 0 < best < num_sigmas - 1:
        before, here, after = total[best - 1 : best + 2]
        position += 0.5 * (before - after) / min(before - 2 * here + after, -1e-9)
    sigma = float(np.interp(position, range(num_sigmas), SIGMAS))
    return sigma, best, index[energies[best].argmax(0)]


def _match(windows: np.ndarray, sigma_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Explained energy [C, shapes, states] by the best template, and the best template [C]."""
    energies = _responses(windows, bank(sigma_index))
    best = np.maximum.reduceat(energies, groups(), axis=0)
    return best.T.reshape(len(windows), len(SHAPES), len(STATES)), energies.argmax(0)


def _explain(
    image: np.ndarray, picks: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of the whole image on a planar background, shadows and the picked objects.

    Returns:
        background [H, W, 3]; colours [C, 2] of the objects relative to it (opponent pairs);
        their coverage with shading [C, H, W].
    """
    height, width = image.shape[:2]
    covers = np.empty((8, height, width), dtype=np.float32)
    for cell, (x, y) in enumerate(_centres(height, width)):
        template = templates()[picks[cell]]
        centre = (x + template.x, y + template.y)
        cover = coverage(
            SHAPES[template.shape], STATES[template.state], centre, template.scale, width, height
        )
        covers[cell], covers[cell + 4] = cover * shading(centre, width, height), cover
    if sigma > 0:
        covers = gaussian_filter(covers, (0, sigma, sigma), mode="nearest")
    solid = np.clip(covers[4:].sum(0), 0, 1)
    shadow = gaussian_filter(np.roll(solid, (1, 1), (0, 1)), 1.0) * (1 - solid)
    plane = _plane(height, width)
    columns = np.concatenate(
        [plane * (1 - solid)[..., None], shadow[..., None], covers[:4].transpose(1, 2, 0)], axis=2
    ).reshape(height * width, -1)
    gram = columns.T @ columns + 1e-3 * np.eye(columns.shape[1], dtype=np.float32)
    solution = np.linalg.solve(gram, columns.T @ image.reshape(-1, 3))
    background = np.clip(plane @ solution[:3], 0.05, 1.5)
    local = np.array([background[y, x] for x, y in _centres(height, width)])
    return background, (solution[4:] / local) @ _OPPONENT, covers[:4]


def _others(colours: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """[C, H, W, 2] colour that the other cells' objects shed on the image, for each cell."""
    each = covers[..., None] * colours[:, None, None, :]
    return each.sum(0) - each


def _away(covers: np.ndarray) -> np.ndarray:
    """[H, W] pixels away from all objects; all pixels where too few are."""
    away = gaussian_filter(covers.sum(0), 0.7) < 0.03
    return away if away.sum() >= 64 else np.ones_like(away)


def _grain(channel: np.ndarray, away: np.ndarray) -> float:
    """Standard deviation of the grain of one channel [H, W]."""
    detail = np.abs(convolve(channel, _LAPLACIAN, mode="mirror"))
    return float(np.median(detail[away]) / 0.6745)


def _stains(relief: np.ndarray, colours: np.ndarray, covers: np.ndarray, away: np.ndarray) -> float:
    """Standard deviation, beyond a tolerance, of smooth colour stains away from the objects."""
    left = relief @ _OPPONENT - np.einsum("chw,cd->hwd", covers, colours)
    smooth = gaussian_filter(left, (0.7, 0.7, 0))[away]
    return max(0.0, float(np.sqrt(np.square(smooth).mean())) - _STAIN_TOLERANCE)


@dataclass(frozen=True)
class _Fit:
    """What least squares and matching found."""

    energy: np.ndarray
    """[C] of the colour in each window."""
    grain: float
    """Energy that grain alone would have in a window."""
    explained: np.ndarray
    """[C, shapes, states] energy explained."""
    background: np.ndarray
    """[H, W, 3]"""
    colours: np.ndarray
    """[C, 2] of the objects."""
    sigma: float
    noise: float
    """Grain of the brightness."""
    stains: float
    """Standard deviation of colour where there should be none, beyond grain and a tolerance."""


def _measure(found: _Fit, expected: Cells) -> Perception:
    """Put the measurements on the scales of the world's levels."""
    angles = np.arctan2(found.colours[:, 1], found.colours[:, 0])[:, None] - _REFERENCE_ANGLES
    angles = np.abs((angles + np.pi) % (2 * np.pi) - np.pi)
    colour_shares = _softmax(-0.5 * np.square(angles / _ANGLE_SPREAD))
    strength = np.linalg.norm(found.colours, axis=1) / (colour_shares @ _REFERENCE_STRENGTHS)
    body = _ramp(strength, _PRESENCE)
    signal = np.maximum(np.maximum(found.energy - found.grain, 0.3 * found.energy), 1e-6)
    explained = found.explained / signal[:, None, None]
    fit = np.minimum(explained.max((1, 2)), 1)
    presence = body * _ramp(fit, _FORM)
    shares = _form_shares(explained, fit, found.sigma, expected)
    states = shares.sum(1)
    seen = presence > 0.5
    cast = np.linalg.norm(found.background.mean((0, 1)) @ _OPPONENT) / found.background.mean()
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
    """[C, shapes, states] shares of belief, each cell's summing to one.

    Where blur or a poor fit hides the form, an object gets the benefit of the doubt: it is
    believed to be whole and of the shape that was asked for.
    """
    doubt = 0.002 + 0.002 * sigma**2 + 0.05 * (1 - fit)
    favoured = explained.copy()
    favoured[:, :, 0] += doubt[:, None]
    for cell, thing in enumerate(expected):
        if thing is not None:
            favoured[cell, SHAPES.index(thing.shape)] += doubt[cell]
    # Blur makes forms alike, so that small differences count; a poor fit makes them doubtful.
    sharpness = _SHARPNESS * (1 + 1.5 * sigma**2) / (1 + np.square((1 - fit) / 0.08))
    logits = sharpness[:, None, None] * favoured + _LOG_PRIOR
    return _softmax(logits.reshape(len(fit), -1)).reshape(explained.shape)


def _ramp(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """0 below the first end, 1 above the second, linear between."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _visible(severity: np.ndarray) -> np.ndarray:
    """Severities with the dead zone taken out: 0 below it, unchanged from 1 on."""
    return np.where(
        severity < 1, np.clip((severity - _DEAD_ZONE) / (1 - _DEAD_ZONE), 0, 1), severity
    )


def _severity(value: float, knots: tuple[float, ...]) -> float:
    """0 to 3 by linear interpolation between what the levels 0 to 3 measure."""
    return float(_visible(np.array(np.interp(value, knots, range(4)))))


_NOISE_KNOTS = (0.0, 0.08, 0.127, 0.196)
_BLUR_KNOTS = (0.55, 1.1, 1.65, 2.3)
_CAST_KNOTS = tuple(
    float(
        np.mean(
            [
                np.linalg.norm(cast_gains(level, hue) @ _OPPONENT) / cast_gains(level, hue).mean()
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
