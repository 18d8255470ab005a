"""Contact sheets: example scores with their reasoning traces, images before and after tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from zreward_core.evaluation.figures import PALETTE, drawn, tidy
from zreward_core.sheets import (
    GAP,
    GREY,
    TITLE_SIZE,
    WIDTH,
    beside,
    in_rows,
    stacked,
    text_block,
    tile,
    titled,
    widened,
)

COLUMN = 220
"""Width of a column of examples, in pixels."""
ANNOTATORS = "#d5d5d5"
"""Colour of their histogram."""
PAIRS_IN_ROW = 3
"""Pairs side by side in a sheet of images before and after tuning."""
MAX_TRACE_LINES = 80
"""Lines of a trace; 300 words take about 60."""


@dataclass(frozen=True)
class DimensionExample:
    """Annotated and predicted distributions of one image on one dimension."""

    histogram: np.ndarray
    """[S] share of the annotators at each level."""
    probs: Mapping[str, np.ndarray]
    """MODEL to [S] predicted distribution."""
    trace: str = ""
    """The teacher's reasoning."""


@dataclass(frozen=True)
class Example:
    """One image with its annotations and predictions."""

    prompt: str
    pixels: np.ndarray
    """[H, W, 3] uint8."""
    dimensions: Mapping[str, DimensionExample]


@dataclass(frozen=True)
class BeforeAfter:
    """Two images of one prompt and seed."""

    prompt: str
    before: np.ndarray
    """[H, W, 3] uint8, of the base generator."""
    after: np.ndarray
    """[H, W, 3] uint8, of the tuned generator."""
    caption: str = ""
    """A short line below the prompt, e.g. the scores."""


def plot_examples(examples: Sequence[Example], levels: Sequence[float], path: Path) -> None:
    """Example images with annotated and predicted score distributions and the teacher's trace.

    Args:
        examples: one row each; all have the same dimensions.
        levels: the S scores of the rubric.
        path: of the PNG.
    """
    names = list(examples[0].dimensions)
    rows = []
    for example in examples:
        image = tile(example.pixels, COLUMN)
        cells = [stacked([image, text_block(example.prompt, COLUMN, MAX_TRACE_LINES)])]
        for name in names:
            shown = example.dimensions[name]
            plot = _distributions(shown, levels)
            trace = text_block(shown.trace, COLUMN, MAX_TRACE_LINES)
            cells.append(stacked([text_block(name, COLUMN), plot, trace], gap=4))
        rows.append(beside([widened(cell, COLUMN) for cell in cells]))
    legend = _legend(examples[0])
    title = "Annotated and predicted scores of test images, with the teacher's reasoning"
    _save(titled(title, [legend, *rows], gap=2 * GAP), path)


def plot_before_after(rows: Sequence[BeforeAfter], title: str, path: Path) -> None:
    """Contact sheet of images before and after tuning.

    Args:
        rows: the pairs.
        title: of the sheet.
        path: of the PNG.
    """
    width = (WIDTH - 2 * GAP) // PAIRS_IN_ROW - GAP
    edge = (width - 4) // 2
    cells = []
    for row in rows:
        sides = [
            widened(stacked([text_block(label, edge, colour=GREY), tile(pixels, edge)], 0), edge)
            for label, pixels in (("before", row.before), ("after", row.after))
        ]
        notes = [text_block(text, width) for text in (row.prompt, row.caption) if text]
        cells.append(widened(stacked([beside(sides, gap=4), *notes], gap=4), width))
    _save(titled(title, [beside(row) for row in in_rows(cells, PAIRS_IN_ROW)], 2 * GAP), path)


def plot_grid(
    rows: Mapping[str, np.ndarray], captions: Sequence[str], title: str, path: Path
) -> None:
    """Images in rows that have a name, with a caption above each column.

    Args:
        rows: name to [N, H, W, 3] uint8.
        captions: at least N.
        title: of the sheet.
        path: of the PNG.
    """
    count = len(next(iter(rows.values())))
    name_width, gap = 60, 8
    width = max(110, (WIDTH - 2 * GAP - name_width) // count - gap)
    blank = Image.new("RGB", (name_width, 1), "white")
    lines = [beside([blank, *(text_block(text, width) for text in captions[:count])], gap)]
    for name, images in rows.items():
        tiles = [widened(tile(pixels, width), width) for pixels in images]
        lines.append(beside([text_block(name, name_width), *tiles], gap))
    _save(titled(title, lines), path)


def _save(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _distributions(example: DimensionExample, levels: Sequence[float]) -> Image.Image:
    figure = Figure((COLUMN / 100, 1.5), layout="constrained", dpi=100)
    axes = figure.subplots()
    _bars(axes, example, levels)
    ticks = np.arange(len(levels))[:: max(1, (len(levels) - 1) // 4)]
    axes.set_xticks(ticks, [f"{levels[tick]:g}" for tick in ticks])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_ylim(0, 1)
    axes.set_xlabel("score (points)", fontsize=8)
    axes.set_ylabel("probability", fontsize=8)
    axes.tick_params(labelsize=8)
    tidy(axes)
    return drawn(figure)


def _bars(axes: Axes, example: DimensionExample, levels: Sequence[float]) -> None:
    centres = np.arange(len(levels))
    axes.bar(centres, example.histogram, 0.9, color=ANNOTATORS)
    width = 0.7 / max(1, len(example.probs))
    for index, (name, probs) in enumerate(example.probs.items()):
        offset = (index - (len(example.probs) - 1) / 2) * width
        axes.bar(centres + offset, probs, width, color=_colour(name, index))


def _legend(example: Example) -> Image.Image:
    models = next(iter(example.dimensions.values())).probs
    colours = {name: _colour(name, index) for index, name in enumerate(models)}
    entries = []
    for name, colour in {"annotators": ANNOTATORS, **colours}.items():
        patch = Image.new("RGB", (TITLE_SIZE, TITLE_SIZE), colour)
        entries += [patch, text_block(name.replace("_", " "), 90)]
    return beside(entries, gap=6, centred=True)


def _colour(name: str, index: int) -> str:
    colours = {"teacher": PALETTE[1], "student": PALETTE[0]}
    return colours.get(name, PALETTE[2 + index % 4])
