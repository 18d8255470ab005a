"""Small images of every accepted format and of many modes."""

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.mutations import mutated_bytes

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F", "I"),
}


@st.composite
def pictures(draw: st.DrawFn, modes: tuple[str, ...], side: int = 24) -> Image.Image:
    """An image of any of the modes."""
    mode = draw(st.sampled_from(modes))
    width, height = draw(st.integers(1, side)), draw(st.integers(1, side))
    noise = np.random.default_rng(draw(st.integers(0, 9)))
    if mode == "I;16":
        return Image.fromarray(noise.integers(0, 65536, (height, width), dtype=np.uint16))
    image = Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return (
        image.convert("L").convert(mode) if mode in ("1", "F", "I", "LA") else image.convert(mode)
    )


@st.composite
def files(draw: st.DrawFn, side: int = 24) -> bytes:
    """A whole image file."""
    kind = draw(st.sampled_from(sorted(MODES)))
    image = draw(pictures(MODES[kind], side))
    options: dict[str, object] = {}
    if draw(st.booleans()):
        exif = Image.Exif()
        exif[274] = draw(st.integers(0, 9))  # orientation
        options["exif"] = exif.tobytes()
    if kind == "PNG" and image.mode in ("L", "P") and draw(st.booleans()):
        options["transparency"] = draw(st.integers(0, 255))
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


damaged = files(8).flatmap(mutated_bytes)
