"""Sheets that show images: example judgements with their traces, before and after tuning."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from zreward_core.evaluation.figures import GREY, MAX_BYTES, PALETTE, pack, save, tidy

EDGE = 256
"""Length that the longer edge of a shown image is brought to."""
SHEET_QUALITIES = ((192, 256), (192, 64), (160, 64), (128, 64), (96, 64), (64, 32))
"""Longer edge of an image on a contact sheet and colours of the palette, best first."""


@dataclass(frozen=True)
class DimensionExample:
    """What was said about one image on one dimension."""

    histogram: np.ndarray
    """[S] the annotators' share of each level."""
    probs: Mapping[str, np.ndarray]
    """MODEL to [S] predicted distribution."""
    trace: str = ""
    """The teacher's reasoning."""


@dataclass(frozen=True)
class Example:
    """One image with what annotators and models say about it."""

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
    """A short line under the pair, e.g. its scores."""


def plot_examples(examples: Sequence[Example], levels: Sequence[float], path: Path) -> None:
    """Example images: score distributions of annotators and models, and the teacher's trace.

    Args:
        examples: a row each; all have the same dimensions.
        levels: the S scores of the rubric.
        path: of the PNG.
    """
    names = list(examples[0].dimensions)
    figure = Figure(figsize=(2.6 * (len(names) + 1), 3.1 * len(examples) + 0.6))
    figure.suptitle("What annotators and models say about an image", fontsize=12, y=0.95)
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
                axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8)
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

    Drawn pixel by pixel, so that small images stay sharp; images shrink until the file is small.

    Args:
        rows: the pairs.
        path: of the PNG.
        columns: pairs side by side.
        title: of the sheet.
    """
    content = b""
    for edge, num_colours in SHEET_QUALITIES:
        content = pack(_sheet(rows, columns, title, edge), num_colours)
        if len(content) < MAX_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _sheet(rows: Sequence[BeforeAfter], columns: int, title: str, edge: int) -> Image.Image:
    gap, line = 14, 15
    cell_width = 2 * edge + 6
    cell_height = 3 * line + 4 + edge + line
    width = columns * (cell_width + gap) + gap
    height = -(-len(rows) // columns) * (cell_height + gap) + 34
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((width / 2, 8), title, font=_font(15), fill="black", anchor="ma")
    font, small = _font(11), _font(10)
    for index, row in enumerate(rows):
        left = gap + (index % columns) * (cell_width + gap)
        top = 34 + (index // columns) * (cell_height + gap)
        wrapped = textwrap.wrap(row.prompt, cell_width // 7, max_lines=2, placeholder=" …")
        for number, text in enumerate(wrapped):
            draw.text((left, top + number * line), text, font=font, fill="black")
        draw.text((left, top + len(wrapped) * line), row.caption, font=small, fill=GREY)
        for side, (pixels, label) in enumerate(((row.before, "before"), (row.after, "after"))):
            image = Image.fromarray(upscale(pixels, edge))
            middle = left + edge // 2 + side * (edge + 6)
            corner = (middle - image.width // 2, top + 3 * line + 4 + (edge - image.height))
            sheet.paste(image, corner)
            below = (middle, top + cell_height - line + 2)
            draw.text(below, label, font=small, fill=GREY, anchor="ma")
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def upscale(pixels: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """Bring the longer edge to ``edge``, or near it.

    Small images grow by a whole factor, so that their pixels stay sharp.

    Args:
        pixels: [H, W, 3] uint8.
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
    wrapped = textwrap.wrap(text.replace("$", r"\$"), width, max_lines=lines, placeholder=" …")
    axes.text(0, 1, "\n".join(wrapped), fontsize=7, va="top", color="#333333")
