"""Prompts and images that are given to a scorer, in the forms in which programs hold them.

Shapes: B images, H height, W width, h x w after resizing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from io import IOBase
from itertools import repeat, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensor

from zreward_core.arguments import finite_number
from zreward_core.config import UserError
from zreward_core.images import check_size, decode, read_image, shown
from zreward_core.models.pixels import PixelPath
from zreward_core.schemas import NotFinite

ImageLike = Image.Image | np.ndarray | torch.Tensor | str | Path | bytes
"""An image of Pillow in any mode, an array [H, W] or [H, W, 1, 3 or 4], a tensor [3, H, W], the
path of an image file, or the bytes of one. Numbers are uint8, or floats in [0, 1]."""
EXPECTED = (
    "pass a Pillow image, a uint8 array [H, W, 3], a tensor [3, H, W] of uint8 or of floats in"
    " [0, 1], a path, or the bytes of an image file"
)
TOLERANCE = 1e-3
"""Pixels may exceed their range by this share of it, as after rounding."""
_MISSING = object()
Encoded = bytes | bytearray | memoryview
URL = re.compile(r"data:|[A-Za-z][A-Za-z0-9+.-]+:/")
"""Of an image that is elsewhere, or in the text itself."""


def in_pairs(
    prompts: str | Iterable[str], images: ImageLike | Iterable[ImageLike]
) -> Iterator[tuple[str, ImageLike]]:
    """Prompts with their images, taken one by one.

    Args:
        prompts: B prompts, or one prompt for all images.
        images: B images, or one image.

    Raises:
        UserError: their numbers differ, as far as it is known; an iterator raises it at its end.
    """
    if _is_one(images):
        images = [images]  # type: ignore[list-item]
    elif not _is_series(images):
        raise UserError(f"the images are {_described(images)}: {EXPECTED}, or several of them")
    if isinstance(prompts, str):
        return zip(repeat(prompts), images)  # type: ignore[arg-type]
    if not _is_series(prompts):
        raise UserError(f"the prompts are {_described(prompts)}: pass texts, one for each image")
    if isinstance(prompts, Sized) and isinstance(images, Sized) and len(prompts) != len(images):
        raise UserError(f"{len(prompts)} prompts for {len(images)} images: pass one for each")
    return _zipped(prompts, images)  # type: ignore[arg-type]


def _zipped(prompts: Iterable[str], images: Iterable[ImageLike]) -> Iterator[tuple[str, ImageLike]]:
    pairs = zip_longest(prompts, images, fillvalue=_MISSING)
    for row, (prompt, image) in enumerate(pairs):
        if prompt is _MISSING or image is _MISSING:
            short, long = ("prompt", "images") if prompt is _MISSING else ("image", "prompts")
            raise UserError(f"there are {row} {short}s, but more {long}: pass one for each")
        yield prompt, image  # type: ignore[misc]


def _is_one(images: object) -> bool:
    """Whether an object is one image rather than several."""
    if isinstance(images, np.ndarray | torch.Tensor):
        return images.ndim < 4
    return isinstance(images, Image.Image | str | Path | Encoded)


def _is_series(values: object) -> bool:
    """Whether values can be paired in order; lines of an open file or numbers of bytes cannot."""
    unordered = set | frozenset | IOBase | Encoded
    return isinstance(values, Iterable) and not isinstance(values, unordered)


def prepare(pixels: PixelPath, image: object, name: str = "image") -> torch.Tensor:
    """Resized pixels [3, h, w] in [0, 1] of an image.

    Images of Pillow, paths and bytes become the pixels that a browser shows on a white page: the
    orientation of the EXIF data and the colour profile are applied, transparency is composited
    over white. A transparent or grey array is treated in the same way; other numbers are used as
    they are.

    Args:
        pixels: of the model.
        image: see ``ImageLike``.
        name: of the image, for messages.

    Raises:
        UserError: it is something else, unreadable, too large or too narrow, or its numbers are
            outside their range.
    """
    if isinstance(image, np.ndarray) and np.issubdtype(image.dtype, np.floating):
        if image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"{name} is {_described(image)}: {EXPECTED}")
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    if not isinstance(image, torch.Tensor):
        return pixels.prepare(_array(image, name))
    if image.ndim != 3 or image.shape[0] != 3:
        raise UserError(f"{name} is {_described(image)}: {EXPECTED}")
    check_size(image.shape[2], image.shape[1], name)
    if image.dtype == torch.uint8:
        values = image.float() / 255.0
    else:
        values = check_range(image.detach(), (0.0, 1.0), name)
    return pixels.resize(values[None])[0]


def _array(image: object, name: str) -> np.ndarray:
    """Pixels [H, W, 3] uint8 of an image that is not a tensor."""
    if isinstance(image, str | Path):
        if URL.match(str(image)):
            raise UserError(f"{name} is a URL, {str(image)[:80]!r}: download it and pass its bytes")
        return read_image(Path(image))[1]
    if isinstance(image, Encoded):
        return decode(bytes(image), name)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        channels = image.shape[2] if image.ndim == 3 else 1
        check_size(image.shape[1], image.shape[0], name)
        if channels == 3:
            return image
        if channels in (1, 4):
            image = Image.fromarray(image if channels == 4 else image.reshape(image.shape[:2]))
    if not isinstance(image, Image.Image):
        raise UserError(f"{name} is {_described(image)}: {EXPECTED}")
    return shown(image, name)


def check_pixels(
    prompts: Sequence[str], pixels: object, value_range: tuple[float, float]
) -> torch.Tensor:
    """Pixels [B, 3, H, W] scaled from their range to [0, 1], with gradients.

    Raises:
        UserError: wrong type, shape, number, dtype or range; says what is expected.
        NotFinite: a pixel is NaN or infinite.
    """
    low, high = _bounds(value_range)
    expected = f"pass floats [{len(prompts)}, 3, H, W] in [{low:g}, {high:g}]"
    if not isinstance(pixels, torch.Tensor):
        raise UserError(f"the pixels are {_described(pixels)}: {expected} as a tensor")
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise UserError(f"the pixels are {_described(pixels)}: {expected}")
    if len(pixels) != len(prompts):
        raise UserError(f"{len(prompts)} prompts for {len(pixels)} images: pass one for each")
    if not pixels.is_floating_point():
        raise UserError(f"the pixels are {_described(pixels)}, which have no gradient: {expected}")
    check_size(pixels.shape[3], pixels.shape[2], "the pixels")
    return check_range(pixels, value_range, "the pixels", has_range=True)


def check_range(
    values: torch.Tensor, value_range: tuple[float, float], name: str, has_range: bool = False
) -> torch.Tensor:
    """Values scaled from their range to [0, 1], as float32.

    Args:
        values: floats.
        value_range: lowest and highest.
        name: of the values, for messages.
        has_range: whether the caller can pass another ``value_range``.

    Raises:
        UserError: the values are not floats, or outside the range.
        NotFinite: a value is NaN or infinite.
    """
    low, high = _bounds(value_range)
    if not values.is_floating_point():
        raise UserError(f"{name} is {_described(values)}: {EXPECTED}")
    if values.numel() and not isinstance(values, FakeTensor):  # fake ones have no values
        least, most = (float(value) for value in values.detach().aminmax())
        if not (np.isfinite(least) and np.isfinite(most)):
            wrong = most if np.isfinite(least) else least
            raise NotFinite(f"{name}: a value is {wrong}; pass finite numbers")
        slack = TOLERANCE * (high - low)
        if least < low - slack or most > high + slack:
            raise UserError(
                f"{name}: values from {least:g} to {most:g}, but {low:g} to {high:g} are expected:"
                " scale or clamp them"
                + (", or name their range with value_range" if has_range else "")
            )
    values = values.float()
    return values if (low, high) == (0.0, 1.0) else (values - low) / (high - low)


def _bounds(value_range: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (finite_number("value_range", value) for value in value_range)
    except (TypeError, ValueError):  # not two, or not finite
        low = high = 0.0
    if not low < high:
        raise UserError(f"value_range is {value_range}: pass (lowest, highest), such as (-1, 1)")
    return low, high


def _described(value: object) -> str:
    """Type, and dtype and shape of a value, for messages."""
    if isinstance(value, np.ndarray | torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        return f"a {dtype} {kind} {list(value.shape)}"
    return f"of type {type(value).__name__}"
