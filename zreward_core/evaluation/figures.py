"""What all figures share: colours, saving as small PNG files."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

MAX_BYTES = 100_000
"""Figures are kept in git by a team and shown in web pages: none is larger."""
QUALITIES = ((110, 256), (110, 64), (90, 64), (75, 64), (60, 64), (50, 32), (40, 32))
"""Dots per inch and colours of the palette, best first."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000")
"""Okabe and Ito's colours, told apart by colour-blind readers too."""
GREY = "#666666"


def tidy(axes: Axes) -> None:
    """A frame of two sides and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG under ``MAX_BYTES``, at the first of ``QUALITIES`` that fits.

    The bytes depend on the figure alone: no date and no program name is written.
    """
    content = b""
    for dpi, num_colours in QUALITIES:
        rendered = io.BytesIO()
        figure.savefig(rendered, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
        with Image.open(rendered) as image:
            content = pack(image, num_colours)
        if len(content) < MAX_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pack(image: Image.Image, num_colours: int) -> bytes:
    """PNG bytes of an image in a palette of so many colours."""
    packed = io.BytesIO()
    palette = image.convert("RGB").quantize(num_colours, dither=Image.Dither.NONE)
    palette.save(packed, format="PNG", optimize=True)
    return packed.getvalue()
