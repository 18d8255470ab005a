"""Contact sheet of the miniature world: every kind of defect at every level, enlarged."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zreward_core.world.prompts import parse_prompt
from zreward_core.world.rendering import render
from zreward_core.world.scenes import (
    KINDS,
    NUM_LEVELS,
    Defect,
    alignment_defects,
    mixed_up,
    sample_scene,
)

_PROMPTS = (
    "two blue stars on the left and a red circle at the top right",
    "three green squares and a purple triangle at the bottom right",
    "two yellow circles at the top and two cyan triangles at the bottom",
    "a red star at the top left with a blue square to the right of it",
)
_TILE, _GAP, _LABEL, _HEADER = 128, 10, 120, 34


def contact_sheet(seed: int) -> Image.Image:
    """One row per kind of defect with two examples per level; the first row has no defects."""
    rows: list[tuple[str, str | None, str | None]] = [("clean", None, None)]
    rows += [("alignment", "alignment", None)]
    rows += [(kind, "alignment", kind) for kind in ("exchanged", "moved")]
    rows += [
        (kind, aspect, kind)
        for aspect, kinds in KINDS.items()
        if aspect != "alignment"
        for kind in kinds
    ]
    columns = 2 * NUM_LEVELS
    width = _LABEL + columns * (_TILE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _HEADER + len(rows) * (_TILE + _GAP)), (250, 250, 248))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for level in range(1, NUM_LEVELS + 1):
        x = _LABEL + (2 * level - 2) * (_TILE + _GAP)
        draw.text((x, 8), f"level {level}", fill=(60, 60, 60), font=font)
    for row, (label, aspect, kind) in enumerate(rows):
        y = _HEADER + row * (_TILE + _GAP)
        draw.text((_GAP, y + _TILE // 2 - 20), label, fill=(30, 30, 30), font=font)
        if kind is not None:
            draw.text((_GAP, y + _TILE // 2), str(aspect), fill=(130, 130, 130), font=font)
        for column in range(columns):
            pixels = _example(seed, row, column, aspect, kind)
            tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (_LABEL + column * (_TILE + _GAP), y))
    return sheet


def _example(seed: int, row: int, column: int, aspect: str | None, kind: str | None) -> np.ndarray:
    level = column // 2 + 1
    rng = np.random.default_rng([seed, row, column])
    prompt = _PROMPTS[column % len(_PROMPTS)]
    expected = parse_prompt(prompt)
    assert expected is not None
    if aspect is None:
        defects: tuple[Defect, ...] = ()
    elif kind is None:
        defects = alignment_defects(expected, level, rng)
    elif aspect == "alignment":
        defects = mixed_up(expected, kind, rng)
    elif aspect == "plausibility":
        cells = tuple(cell for cell in range(4) if expected[cell] is not None)
        defects = tuple(Defect(aspect, kind, level, (cell,), (column + cell) % 3) for cell in cells)
    else:
        defects = (Defect(aspect, kind, level, variant=column),)
    return render(sample_scene(prompt, rng, defects=defects), (32, 32))
