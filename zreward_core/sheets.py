"""Blocks of image sheets: tiles, wrapped text, and blocks beside or on top of each other.

Text is drawn at the resolution at which a sheet is shown. Sheets are about ``WIDTH`` wide, so that
a page shows them unscaled.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH = 900
"""Width of a page's column, in pixels."""
GAP = 12
"""Pixels between blocks."""
TEXT_SIZE, TITLE_SIZE = 13, 16
"""Font sizes in pixels."""
MAX_LINES = 16
"""Lines of a caption; a prompt of 80 words fits under a pair of images."""
BLACK, GREY, EDGE_COLOUR = "#111111", "#5f5f5f", "#cccccc"


def tile(pixels: np.ndarray, edge: int) -> Image.Image:
    """An image with a thin frame, its longer side at most ``edge`` pixels.

    Small images are enlarged by an integer factor, which keeps their pixels sharp.

    Args:
        pixels: [H, W, 3] uint8.
        edge: the side in pixels.
    """
    image = Image.fromarray(pixels)
    longer = max(image.size)
    factor = edge // longer or edge / longer
    size = [max(1, round(side * factor)) for side in image.size]
    method = Image.Resampling.LANCZOS if longer > edge else Image.Resampling.NEAREST
    shown = image.resize((size[0], size[1]), method)
    ImageDraw.Draw(shown).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=EDGE_COLOUR)
    return shown


def text_block(
    text: str,
    width: int,
    max_lines: int = MAX_LINES,
    size: int = TEXT_SIZE,
    colour: str = BLACK,
) -> Image.Image:
    """Text wrapped to a width; what exceeds ``max_lines`` is cut and its words are counted."""
    lines = wrapped(text, width, max_lines, size)
    step = round(1.25 * size)
    block = Image.new("RGB", (width, max(1, len(lines)) * step), "white")
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * step), line, fill=colour, font=font(size))
    return block


def wrapped(text: str, width: int, max_lines: int = MAX_LINES, size: int = TEXT_SIZE) -> list[str]:
    """Lines no wider than ``width`` pixels; a word wider than a line is divided."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        lines += _lines(paragraph.split(), width, size)
    if len(lines) <= max_lines:
        return lines
    kept, left = lines[: max_lines - 1], " ".join(lines[max_lines - 1 :]).split()
    shown = 0
    while _length(_cut(left, shown + 1), size) <= width:
        shown += 1
    return [*kept, _cut(left, shown)]


def beside(blocks: Sequence[Image.Image], gap: int = GAP, centred: bool = False) -> Image.Image:
    """Blocks in a row, aligned at the top or centred."""
    height = max(block.height for block in blocks)
    row = Image.new("RGB", (sum(b.width + gap for b in blocks) - gap, height), "white")
    x = 0
    for block in blocks:
        row.paste(block, (x, (height - block.height) // 2 if centred else 0))
        x += block.width + gap
    return row


def stacked(blocks: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Blocks on top of each other, aligned at the left."""
    width = max(block.width for block in blocks)
    column = Image.new("RGB", (width, sum(b.height + gap for b in blocks) - gap), "white")
    y = 0
    for block in blocks:
        column.paste(block, (0, y))
        y += block.height + gap
    return column


def widened(block: Image.Image, width: int) -> Image.Image:
    """A block of at least this width, filled with white at the right."""
    return stacked([block, Image.new("RGB", (width, 0))], gap=0)


def titled(title: str, rows: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """A sheet of rows below its title, with a margin."""
    body = stacked(rows, gap)
    block = stacked([text_block(title, max(body.width, 300), size=TITLE_SIZE), body])
    sheet = Image.new("RGB", (block.width + 2 * GAP, block.height + 2 * GAP), "white")
    sheet.paste(block, (GAP, GAP))
    return sheet


def captioned(
    images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int
) -> Image.Image:
    """Images [H, W, 3] in rows, each with its caption below."""
    width = (WIDTH - 2 * GAP) // columns - GAP
    cells = [
        widened(stacked([tile(pixels, width), text_block(caption, width)], gap=4), width)
        for pixels, caption in zip(images, captions, strict=True)
    ]
    return titled(title, [beside(row) for row in in_rows(cells, columns)])


def in_rows(cells: Sequence[Image.Image], columns: int) -> list[Sequence[Image.Image]]:
    """Divide cells into rows of ``columns``."""
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Latin, Greek and Cyrillic letters, arrows."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _lines(words: Sequence[str], width: int, size: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if _length(longer, size) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while _length(line, size) > width:
            fits = next(
                (n for n in range(len(line) - 1, 1, -1) if _length(line[:n], size) <= width), 1
            )
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line] if line else lines


def _cut(words: Sequence[str], shown: int) -> str:
    return " ".join([*words[:shown], f"… +{len(words) - shown} words"])


def _length(text: str, size: int) -> float:
    return font(size).getlength(text)
