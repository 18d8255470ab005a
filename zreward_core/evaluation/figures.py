"""Shared by all figures: colours, axes style, saving as small PNG files."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

MAX_BYTES = 100_000
"""Upper bound on the size of a figure, since figures are committed to git and shown in pages."""
QUALITIES = ((110, 256), (110, 64), (90, 64), (75, 64), (60, 64), (50, 32), (40, 32))
"""Dots per inch and number of palette colours, best first."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000")
"""The palette of Okabe and Ito, safe for colour-blind readers."""
GREY = "#666666"


def tidy(axes: Axes) -> None:
    """Hide the top and right spines and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def legend_beside(axes: Axes, **options: float) -> None:
    """Place the legend to the right of the axes."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, **options)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG below ``MAX_BYTES``, at the first of ``QUALITIES`` that fits.

    The bytes depend on the figure alone: neither a date nor a program name is written.
    """
    content = b""
    for dpi, num_colours in QUALITIES:
        rendered, packed = io.BytesIO(), io.BytesIO()
        figure.savefig(rendered, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
        with Image.open(rendered) as image:
            palette = image.convert("RGB").quantize(num_colours, dither=Image.Dither.NONE)
        palette.save(packed, format="PNG", optimize=True)
        content = packed.getvalue()
        if len(content) < MAX_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
