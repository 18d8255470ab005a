"""A contact sheet of sampled images with their prompts."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE, GAP, LINE, NUM_LINES = 128, 12, 12, 3
CHARACTERS = 25
"""Characters that fit on a line under an image."""


def image_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> Image.Image:
    """Arrange images [H, W, 3] uint8 in rows, each with its caption below."""
    rows = -(-len(images) // columns)
    height = TILE + NUM_LINES * LINE + GAP
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for index, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        x = GAP + index % columns * (TILE + GAP)
        y = GAP + index // columns * height
        image = Image.fromarray(pixels)
        image.thumbnail((TILE, TILE))
        factor = TILE / max(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        sheet.paste(image.resize(size, Image.Resampling.NEAREST), (x, y))
        lines = textwrap.wrap(caption, CHARACTERS, max_lines=NUM_LINES, placeholder=" …")
        for number, text in enumerate(lines):
            draw.text((x, y + TILE + 1 + number * LINE), text, fill="black", font=font)
    return sheet
