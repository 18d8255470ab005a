"""A sheet of the exemplars of one dimension, for tools that show images but not HTML pages."""

import io
from collections.abc import Mapping

from zreward_core.annotations.label_studio.exemplars import Exemplar
from zreward_core.images import decode
from zreward_core.rubric import Rubric
from zreward_core.sheets import TITLE_SIZE, beside, stacked, text_block, tile, titled, widened

TILE, LABEL = 128, 40
PER_LEVEL = 6
PROMPT_LINES = 5


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
    rows = []
    for level in rubric.levels[::-1]:
        shown = [one for one in exemplars if one.scores.get(dimension) == level][:PER_LEVEL]
        cells = [
            stacked([widened(tile(decode(contents[one.image], one.image), TILE), TILE),
                     text_block(one.prompt, TILE, PROMPT_LINES)], gap=4)
            for one in shown
        ]  # fmt: skip
        rows.append(beside([text_block(f"{level:g}", LABEL, size=TITLE_SIZE), *cells]))
    buffer = io.BytesIO()
    titled(f"{dimension}: images by score", rows).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
