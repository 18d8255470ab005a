"""Contact sheet of the miniature world: every kind of defect at every level, enlarged."""

import numpy as np
from PIL import Image

from zreward_core.sheets import GREY, beside, stacked, text_block, tile, titled
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
_TILE, _LABEL = 128, 100


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
    columns = range(2 * NUM_LEVELS)
    blank = Image.new("RGB", (_LABEL, 1), "white")
    heads = [
        stacked([text_block(f"level {_level(column)}", _TILE, colour=GREY),
                 text_block(_prompt(column), _TILE)], gap=2)
        for column in columns
    ]  # fmt: skip
    lines = [beside([blank, *heads])]
    for row, (label, aspect, kind) in enumerate(rows):
        name = [text_block(label, _LABEL)]
        if kind is not None:
            name.append(text_block(str(aspect), _LABEL, colour=GREY))
        tiles = [tile(_example(seed, row, column, aspect, kind), _TILE) for column in columns]
        lines.append(beside([stacked(name, gap=2), *tiles]))
    return titled("Defects of the miniature world by level, for the prompts at the top", lines)


def _level(column: int) -> int:
    return column // 2 + 1


def _prompt(column: int) -> str:
    return _PROMPTS[column % len(_PROMPTS)]


def _example(seed: int, row: int, column: int, aspect: str | None, kind: str | None) -> np.ndarray:
    level, prompt = _level(column), _prompt(column)
    rng = np.random.default_rng([seed, row, column])
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
