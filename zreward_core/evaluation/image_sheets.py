"""Contact sheets: example scores with their reasoning traces, images before and after tuning."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from zreward_core.evaluation.figures import GREY, PALETTE, legend_beside, save, tidy

EDGE = 256
"""Longer edge of a displayed image, in pixels."""


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
    figure = Figure(figsize=(2.6 * (len(names) + 1), 3.1 * len(examples) + 0.6))
    figure.suptitle("Annotated and predicted scores of test images", fontsize=12, y=0.95)
    grid = figure.add_gridspec(
        2 * len(examples), len(names) + 1, height_ratios=(2.0, 1.4) * len(examples), hspace=0.3
    )
    for row, example in enumerate(examples):
        _image(figure.add_subplot(grid[2 * row, 0]), example.pixels)
        note = figure.add_subplot(grid[2 * row + 1, 0])
        _note(note, f"“{example.prompt}”", width=30, lines=6)
        for column, name in enumerate(names, start=1):
            axes = figure.add_subplot(grid[2 * row, column])
            _distributions(axes, example.dimensions[name], levels)
            axes.set_title(name, fontsize=9)
            if column == 1:
                axes.set_ylabel("probability", fontsize=8)
            if row == 0 and column == len(names):
                legend_beside(axes, fontsize=8)
            note = figure.add_subplot(grid[2 * row + 1, column])
            _note(note, example.dimensions[name].trace, width=32, lines=6)
    save(figure, path)


def plot_before_after(
    rows: Sequence[BeforeAfter],
    path: Path,
    columns: int = 2,
    title: str = "Same prompt, same seed",
) -> None:
    """Contact sheet of images before and after tuning.

    Args:
        rows: the pairs.
        path: of the PNG.
        columns: pairs side by side.
        title: of the sheet.
    """
    num_rows = -(-len(rows) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.4 * num_rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=12)
    cells = figure.subfigures(num_rows, columns, squeeze=False).ravel()
    for cell, row in zip(cells, rows, strict=False):
        caption = [*textwrap.wrap(row.prompt, 56, max_lines=2, placeholder=" …"), row.caption]
        cell.suptitle(_plain("\n".join(filter(None, caption))), fontsize=7)
        sides = ("before", row.before), ("after", row.after)
        for axes, (label, pixels) in zip(cell.subplots(1, 2), sides, strict=True):
            _image(axes, pixels)
            axes.set_xlabel(label, fontsize=7, color=GREY, labelpad=2)
    save(figure, path)


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
    num_columns = len(next(iter(rows.values())))
    figure = Figure((1.7 * num_columns + 0.6, 1.7 * len(rows) + 1.0), layout="constrained")
    figure.suptitle(title, fontsize=12)
    cells = figure.subplots(len(rows), num_columns, squeeze=False)
    for line, (name, images) in zip(cells, rows.items(), strict=True):
        for axes, pixels in zip(line, images, strict=True):
            _image(axes, pixels)
        line[0].set_ylabel(name, fontsize=9)
    for axes, caption in zip(cells[0], captions, strict=False):
        wrapped = textwrap.wrap(caption, 26, max_lines=4, placeholder=" …")
        axes.set_title(_plain("\n".join(wrapped)), fontsize=7)
    save(figure, path)


def upscale(pixels: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """Resize an image so that its longer edge is ``edge`` pixels, or close to it.

    Small images are enlarged by an integer factor, which keeps their pixels sharp.

    Args:
        pixels: [H, W, 3] uint8.
        edge: target length.
    """
    longer = max(pixels.shape[:2])
    if longer <= edge // 2:
        factor = edge // longer
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (round(pixels.shape[1] * edge / longer), round(pixels.shape[0] * edge / longer))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _image(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(upscale(pixels), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#cccccc")


def _distributions(axes: Axes, example: DimensionExample, levels: Sequence[float]) -> None:
    centres = np.arange(len(levels))
    axes.bar(centres, example.histogram, 0.9, color="#d5d5d5", label="annotators")
    width = 0.7 / max(1, len(example.probs))
    colours = {"teacher": PALETTE[1], "student": PALETTE[0]}
    for index, (name, probs) in enumerate(example.probs.items()):
        offset = (index - (len(example.probs) - 1) / 2) * width
        colour = colours.get(name, PALETTE[2 + index % 4])
        axes.bar(centres + offset, probs, width, color=colour, label=name.replace("_", " "))
    ticks = centres[:: max(1, (len(levels) - 1) // 4)]
    axes.set_xticks(ticks, [f"{levels[tick]:g}" for tick in ticks], fontsize=7)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=7)
    tidy(axes)


def _note(axes: Axes, text: str, width: int, lines: int) -> None:
    axes.set_axis_off()
    wrapped = textwrap.wrap(_plain(text), width, max_lines=lines, placeholder=" …")
    axes.text(0, 1, "\n".join(wrapped), fontsize=7, va="top", color="#333333")


def _plain(text: str) -> str:
    """Text with dollar signs escaped, which matplotlib reads as mathematics."""
    return text.replace("$", r"\$")
