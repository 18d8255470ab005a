"""A sheet of the exemplars of one dimension, for tools that show images but not HTML pages."""

import io
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from zreward_core.annotations.label_studio.exemplars import Exemplar
from zreward_core.images import decode
from zreward_core.rubric import Rubric

TILE, GAP, LABEL = 72, 8, 56
PER_LEVEL = 8


def exemplar_sheet(
    rubric: Rubric, dimension: str, exemplars: list[Exemplar], contents: Mapping[str, bytes]
) -> bytes:
    """PNG with a row of up to ``PER_LEVEL`` exemplars per level, the best level on top.

    Args:
        rubric: gives the levels.
        dimension: name of the dimension.
        exemplars: of any dimension.
        contents: bytes of the images by file name.
    """
    size = LABEL + PER_LEVEL * (TILE + GAP) + GAP, GAP + len(rubric.levels) * (TILE + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=22)
    for row, level in enumerate(rubric.levels[::-1]):
        top = GAP + row * (TILE + GAP)
        draw.text((GAP, top + TILE // 2 - 12), f"{level:g}", fill="black", font=font)
        shown = [one for one in exemplars if one.scores.get(dimension) == level][:PER_LEVEL]
        for column, exemplar in enumerate(shown):
            image = Image.fromarray(decode(contents[exemplar.image], exemplar.image))
            tile = _fitted(image)
            sheet.paste(tile, (LABEL + column * (TILE + GAP), top))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _fitted(image: Image.Image) -> Image.Image:
    share = TILE / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    small = max(image.size) <= TILE
    method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return image.resize((width, height), method)
