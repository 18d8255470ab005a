"""Shared by all figures: colours, axes style, saving.

A figure is at most ``WIDTH`` wide, so that a page shows it unscaled and its text stays legible.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

WIDTH = 9.0
"""Inches of the widest figure."""
DPI = 100
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000")
"""The palette of Okabe and Ito, safe for colour-blind readers."""
GREY = "#666666"


def tidy(axes: Axes) -> None:
    """Hide the top and right spines and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def step_axis(axes: Axes) -> None:
    """Name the horizontal axis and mark whole steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def legend_below(figure: Figure, *sources: Axes, columns: int = 4) -> None:
    """Place one legend of some axes below a figure with the constrained layout."""
    entries: dict[str, Any] = {}
    for axes in sources:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns,
        frameon=False,
    )  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its bytes depend on the figure alone, without a date or a program's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(figure).save(path, optimize=True)


def drawn(figure: Figure) -> Image.Image:
    """A figure as an image."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
