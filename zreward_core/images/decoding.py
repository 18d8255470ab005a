"""Decoding of images: to the pixels that a browser shows.

Training, scoring, serving and ingest all decode here, and reject images that cannot be shown
faithfully. An image is identified by the sha256 of its bytes.
"""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from zreward_core.config import UserError, writable

MAX_PIXELS = 64_000_000
"""Larger images are rejected before decoding."""
MAX_ASPECT = 200
"""Longer side by shorter side; Qwen2-VL's image processor (``smart_resize``) accepts no more."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "TIFF")
"""Accepted formats; others of Pillow run programs (EPS) or are not shown by browsers."""

_GREYS = {"L;2": 3, "L;4": 15}
"""White in grey PNG files of less than 8 bits."""
_PHOTOMETRIC = 262
"""TIFF tag; 0: white is zero."""
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to the operation that makes the image upright."""
_REFUSED_MODES = {
    "F": "grey values are floats, whose white is not defined",
    "I": "grey values are 32-bit integers, whose white is not defined",
    "LAB": "colours are CIELAB",
    "HSV": "colours are HSV",
}
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Errors of Pillow's decoders on damaged files."""


MAX_BYTES = 2**28
"""Larger files are not read."""


class ImageTooLarge(UserError):
    """The image has too many pixels."""


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of pixels [H, W, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode(content: bytes, name: str = "image") -> np.ndarray:
    """Decode an image to the pixels [H, W, 3] uint8 that a browser shows on a white page.

    The EXIF orientation and an embedded colour profile are applied, 16-bit values are reduced to
    their high byte, and transparency is composited over white.

    Raises:
        ImageTooLarge: the image has more than ``MAX_PIXELS``.
        UserError: the bytes are not an image of ``FORMATS``, are damaged, have a side
            ``MAX_ASPECT`` times longer than the other, or cannot be shown faithfully.
    """
    with _opened(content, name) as image:
        return shown(image, name)


def stored_size(content: bytes, name: str = "image") -> tuple[int, int]:
    """Width and height in an image's header; no pixels are decoded.

    Raises:
        UserError: the bytes are not an image of ``FORMATS``.
    """
    with _opened(content, name) as image:
        return image.size


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """An opened image; errors of Pillow become UserErrors."""
    with _readable(name), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        yield image


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Within the block errors of Pillow become UserErrors."""
    try:
        yield
    except UserError:
        raise
    except _FAULTS as error:
        reason = str(error).partition(" <_io.")[0] or type(error).__name__
        raise UserError(
            f"{name} is not a readable image ({reason}); replace it by a file of the formats"
            f" {', '.join(FORMATS)}, or remove it"
        ) from None


def read_image(path: Path) -> tuple[bytes, np.ndarray]:
    """Content of an image file, and its pixels as ``decode`` returns them.

    Raises:
        UserError: there is no such file, it cannot be read, or ``decode`` refuses it.
    """
    name = writable(str(path))
    if not os.path.isfile(path):  # False for names that no file can have, too
        folder = os.path.isdir(path)
        raise UserError(f"{name} is a folder, not an image" if folder else f"{name} is not found")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageTooLarge(f"{name} has more than {MAX_BYTES:,} bytes; save it smaller")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    return content, decode(content, name)


def shown(image: Image.Image, name: str = "image") -> np.ndarray:
    """Pixels [H, W, 3] uint8 of an opened image, as ``decode`` returns them.

    Raises:
        UserError: as for ``decode``.
    """
    check_size(image.width, image.height, name)
    with _readable(name):
        if image.format != "MPO" and getattr(image, "is_animated", False):  # phones add to MPO
            raise UserError(f"{name} has several frames or pages; save the rated one as PNG")
        tiles = getattr(image, "tile", ())
        stored = str(tiles[0].args) if tiles else image.mode
        image.load()
        turn = _TRANSPOSE.get(_orientation(image))
        upright = _on_white(_as_bytes(image, stored, name))
        return np.array(upright if turn is None else upright.transpose(turn))


def check_size(width: int, height: int, name: str) -> None:
    """Reject images that are too large or too narrow.

    Raises:
        ImageTooLarge: more than ``MAX_PIXELS``.
        UserError: one side is more than ``MAX_ASPECT`` times the other.
    """
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"{name}: {width} x {height} is too large; shrink it to at most {MAX_PIXELS:,} pixels"
        )
    if not width or max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"{name}: {width} x {height} is too narrow; one side may be at most {MAX_ASPECT} times"
            " the other: crop it or remove it"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of a loaded image; 1 where the EXIF data is absent or damaged.

    Only the EXIF block is read, as in browsers; Pillow also reads XMP. TIFF is upright once loaded.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except _FAULTS:
        return 1


def _as_bytes(image: Image.Image, stored: str, name: str) -> Image.Image:
    """The image with 8 bits per channel; ``stored`` is Pillow's name of the file's layout."""
    reason = _REFUSED_MODES.get(image.mode)
    transparent = image.info.get("transparency")
    if transparent is not None and stored in _GREYS:  # Pillow does not scale the transparent grey
        image.info["transparency"] = transparent * 255 // _GREYS[stored]
    elif transparent is not None and stored == "RGB;16B":
        reason = "it has 16 bits per channel and a transparent colour"
    if image.mode.startswith("I;16"):
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
            reason = "16-bit grey values are inverted (white is zero)"
        values = np.asarray(image)
        reduced = Image.fromarray((values >> 8).astype(np.uint8))
        if transparent is not None:
            reduced.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype("u1")))
        reduced.info["icc_profile"] = image.info.get("icc_profile")
        image = reduced
    if reason is not None:
        raise UserError(f"{name} cannot be shown faithfully: {reason}; save it as an 8-bit PNG")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """An image of 8 bits per channel as RGB in sRGB, composited over white."""
    profile = image.info.get("icc_profile")
    if not image.has_transparency_data:
        plain = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        return _to_srgb(plain, profile)
    rgba = image.convert("RGBA")
    plain = image.getchannel("L") if image.mode == "LA" else rgba.convert("RGB")
    colored = _to_srgb(plain, profile)
    colored.putalpha(rgba.getchannel("A"))
    white = Image.new("RGBA", colored.size, "white")
    return Image.alpha_composite(white, colored).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB; a profile that is damaged or of other channels is ignored, as in browsers."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                assert converted is not None
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def image_id(content: bytes) -> str:
    """Identifier of an image: sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def shown_size(content: bytes) -> tuple[int, int]:
    """Width and height of a readable image as it is shown (``decode``)."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if b"eXIf" in content:
            image.load()  # in PNG files the block may follow the pixels
        turned = 5 <= _orientation(image) <= 8
        return (image.height, image.width) if turned else image.size
