"""Decomposition of an image into a planar background, shadows and one object per cell.

Shapes: H, W the canonical grid (short side 32), C = 4 cells, N = 256 pixels of a cell's window, T
templates. Colours are opponent pairs (red-green, yellow-blue), which are invariant to brightness
and shadows.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from zreward_core.world.prompts import SHAPES
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
OPPONENT = np.array([[1, -1, 0], [1, 1, -2]], dtype=np.float32).T / np.sqrt([2, 6])
OPPONENT = OPPONENT.astype(np.float32)
"""RGB to the two opponent colours, [3, 2]."""

_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
_GRAIN_ON_OBJECTS = 1.3
"""Energy of the grain's colour on objects relative to the background, where it is clipped."""
_STAIN_TOLERANCE = 0.03
"""Standard deviation of background colour that is ignored."""
_SHEDDING = 0.8
"""Sigma in pixels from which the blurred colour of objects reaches other cells."""


@dataclass(frozen=True)
class Decomposition:
    """Result of the least-squares fit and the template matching."""

    energy: np.ndarray
    """[C] energy of the colour in each window."""
    grain: float
    """Energy of grain alone in a window."""
    explained: np.ndarray
    """[C, shapes, states] energy explained by the best template of each shape and state."""
    background: np.ndarray
    """[H, W, 3]"""
    colours: np.ndarray
    """[C, 2] of the objects, relative to the background."""
    sigma: float
    """Blur in pixels of the canonical grid."""
    noise: float
    """Standard deviation of the grain's brightness."""
    stains: float
    """Standard deviation of colour stains in the background, above grain and a tolerance."""


def decompose(pixels: np.ndarray) -> Decomposition:
    """Fit background, shadows and objects to an image.

    Args:
        pixels: [H', W', 3] uint8.

    Raises:
        ValueError: the array has a different shape.
    """
    image = _canonical(pixels)
    background = _border_background(image)
    chroma = (image / background) @ OPPONENT
    sigma, sigma_index, picks = _estimate_blur(_windows(chroma))
    for _ in range(2 if sigma > _SHEDDING else 1):
        background, colours, covers = _explain(image, picks, sigma)
        chroma = (image / background) @ OPPONENT
        shed = _others(colours, covers) if sigma > _SHEDDING else 0.0
        windows = _windows(chroma - shed)
        fits, picks = _match(windows, sigma_index)
    background, colours, covers = _explain(image, picks, sigma)
    away = _away(covers)
    grain = 2 * CELL * CELL * np.square([_grain(chroma[..., i], away) for i in (0, 1)]).mean()
    return Decomposition(
        energy=np.square(windows).sum((1, 2)),
        grain=_GRAIN_ON_OBJECTS * float(grain),
        explained=fits,
        background=background,
        colours=colours,
        sigma=sigma,
        noise=_grain(image.mean(2), away),
        stains=_stains(image / background - 1, colours, covers, away),
    )


def _canonical(pixels: np.ndarray) -> np.ndarray:
    """Image [H, W, 3] on the canonical grid: float32 in [0, 1], short side 32."""
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
    """Columns [H, W, 3] of a planar fit: one, x, y."""
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
    """Colour [C, N, 2] of each cell; ``chroma`` is [H, W, 2], or [C, H, W, 2] with one per cell."""
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
    """Energy [T, C] of each cell's colour explained by each template of unit norm."""
    num_cells = len(windows)
    flat = windows.transpose(2, 0, 1).reshape(2 * num_cells, -1)
    projected = rows @ flat.T
    np.square(projected, out=projected)
    return projected[:, :num_cells] + projected[:, num_cells:]


def _estimate_blur(windows: np.ndarray) -> tuple[float, int, np.ndarray]:
    """Sigma in pixels, the index of the nearest bank, and initial templates [C]."""
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
    """Energy explained by the best templates [C, shapes, states], and the best template [C]."""
    energies = _responses(windows, bank(sigma_index))
    best = np.maximum.reduceat(energies, groups(), axis=0)
    return best.T.reshape(len(windows), len(SHAPES), len(STATES)), energies.argmax(0)


def _explain(
    image: np.ndarray, picks: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares fit of the whole image by a planar background, shadows and the given objects.

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
    return background, (solution[4:] / local) @ OPPONENT, covers[:4]


def _others(colours: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """Colour [C, H, W, 2] contributed by the objects of the other cells, for each cell."""
    each = covers[..., None] * colours[:, None, None, :]
    return each.sum(0) - each


def _away(covers: np.ndarray) -> np.ndarray:
    """Mask [H, W] of the pixels away from all objects; all pixels if too few remain."""
    away = gaussian_filter(covers.sum(0), 0.7) < 0.03
    return away if away.sum() >= 64 else np.ones_like(away)


def _grain(channel: np.ndarray, away: np.ndarray) -> float:
    """Standard deviation of the grain of one channel [H, W]."""
    detail = np.abs(convolve(channel, _LAPLACIAN, mode="mirror"))
    return float(np.median(detail[away]) / 0.6745)


def _stains(relief: np.ndarray, colours: np.ndarray, covers: np.ndarray, away: np.ndarray) -> float:
    """Standard deviation of smooth colour stains away from the objects, above a tolerance."""
    left = relief @ OPPONENT - np.einsum("chw,cd->hwd", covers, colours)
    smooth = gaussian_filter(left, (0.7, 0.7, 0))[away]
    return max(0.0, float(np.sqrt(np.square(smooth).mean())) - _STAIN_TOLERANCE)
