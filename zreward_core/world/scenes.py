"""Scenes: the complete description of an image, sampled for a prompt."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from zreward_core.world.prompts import COLOURS, SHAPES, THINGS, Cells, Thing, parse_prompt
from zreward_core.world.silhouettes import NUM_VARIANTS

KINDS = {
    "alignment": ("recolored", "swapped", "missing", "extra", "exchanged", "moved"),
    "realism": ("noise", "blur"),
    "aesthetics": ("washed", "cast"),
    "plausibility": ("broken", "melted"),
}
"""The defects of each aspect. "exchanged" swaps the colours of two objects, or their places if the
colours are equal (a binding error); "moved" puts an object into an empty cell. An inspection
reports these two by the other four alignment kinds."""
ASPECTS = tuple(KINDS)
NUM_LEVELS = 3
CAST_HUES = (15, 60, 125, 190, 240, 310)
"""Hues of colour casts, in degrees."""
SIZES = {(32, 32): 0.5, (48, 48): 0.1, (64, 64): 0.1}
SIZES |= {(50, 40): 0.1, (60, 48): 0.05, (40, 50): 0.1, (48, 60): 0.05}
"""Native image sizes (width, height) and their shares."""

_BOTH_KINDS = 0.15
"""Share of realism and aesthetics defects with both kinds."""
_MIXED_UP = 0.3
"""Share of alignment defects in which objects are exchanged or moved, if possible."""


@dataclass(frozen=True)
class Defect:
    """One defect of an image.

    An alignment defect has one record per cell (one per two cells if objects are exchanged or
    moved) and ``level`` is the total number of affected cells. For other aspects ``level`` is the
    severity, 1 to 3.
    """

    aspect: str
    kind: str
    level: int
    cells: tuple[int, ...] = ()
    """Affected cells; empty if the defect concerns the whole image."""
    variant: int = 0
    """Appearance: hue of the cast, direction of the cut, pattern of the drips."""


@dataclass(frozen=True)
class Placement:
    """Position and size of an object, in units of a cell's shorter side."""

    x: float
    y: float
    scale: float
    tone: float
    """Factor of the object's brightness."""


@dataclass(frozen=True)
class Scene:
    """An image to render."""

    prompt: str
    expected: Cells
    seen: Cells
    placements: tuple[Placement, ...]
    """One for each cell."""
    brightness: tuple[float, float]
    """Brightness of the background at the top and at the bottom, 0 to 1."""
    defects: tuple[Defect, ...]
    grain_seed: int


def sample_scene(
    prompt: str,
    rng: np.random.Generator,
    clean_share: float = 0.4,
    defects: tuple[Defect, ...] | None = None,
) -> Scene:
    """Sample a scene for a prompt.

    Args:
        prompt: a prompt of this world.
        rng: source of randomness.
        clean_share: probability that an aspect has no defect, independently for each aspect.
        defects: use these defects instead of random ones.

    Raises:
        ValueError: not a prompt of this world.
    """
    expected = parse_prompt(prompt)
    if expected is None:
        raise ValueError(f"{prompt!r} is not a prompt of the miniature world")
    if defects is None:
        defects = _sample_defects(expected, rng, clean_share)
    seen = _apply_alignment(expected, defects, rng)
    placements = tuple(
        Placement(
            x=rng.uniform(-1, 1) / 16,
            y=rng.uniform(-1, 1) / 16,
            scale=rng.uniform(0.92, 1.08),
            tone=rng.uniform(0.96, 1.04),
        )
        for _ in range(4)
    )
    top = rng.uniform(0.89, 0.95)
    return Scene(
        prompt=prompt,
        expected=expected,
        seen=seen,
        placements=placements,
        brightness=(top, top - rng.uniform(0.02, 0.09)),
        defects=defects,
        grain_seed=int(rng.integers(2**31)),
    )


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Sample a native size (width, height)."""
    sizes = list(SIZES)
    return sizes[rng.choice(len(sizes), p=list(SIZES.values()))]


def alignment_defects(expected: Cells, count: int, rng: np.random.Generator) -> tuple[Defect, ...]:
    """Sample alignment defects in at most ``count`` cells; at least one object remains visible."""
    cells = rng.permutation(4)[:count]
    objects = sum(thing is not None for thing in expected)
    defects = []
    for cell in sorted(int(cell) for cell in cells):
        if expected[cell] is None:
            kind = "extra"
        else:
            kinds = ("recolored", "swapped", "missing") if objects > 1 else ("recolored", "swapped")
            kind = kinds[rng.integers(len(kinds))]
            objects -= kind == "missing"
        defects.append(Defect("alignment", kind, len(cells), (cell,)))
    return tuple(defects)


def mixed_up(expected: Cells, kind: str, rng: np.random.Generator) -> tuple[Defect, ...]:
    """Exchange or move objects: one defect of two cells, or none if it is not possible."""
    objects = [cell for cell in range(4) if expected[cell] is not None]
    if kind == "moved":
        chances = [(one, two) for one in objects for two in range(4) if two not in objects]
    else:
        pairs = combinations(objects, 2)
        chances = [(one, two) for one, two in pairs if expected[one] != expected[two]]
    if not chances:
        return ()
    return (Defect("alignment", kind, 2, chances[rng.integers(len(chances))]),)


def _sample_defects(
    expected: Cells, rng: np.random.Generator, clean_share: float
) -> tuple[Defect, ...]:
    defects: list[Defect] = []
    faulty = rng.random(4) >= clean_share
    if faulty[0]:
        if rng.random() < _MIXED_UP:
            defects += mixed_up(expected, ("exchanged", "moved")[rng.integers(2)], rng)
        if not defects:
            count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
            defects += alignment_defects(expected, count, rng)
    for aspect, present in (("realism", faulty[1]), ("aesthetics", faulty[2])):
        if present:
            defects += _whole_image_defects(aspect, rng)
    if faulty[3]:
        defects += _plausibility_defects(expected, defects, rng)
    return tuple(defects)


def _whole_image_defects(aspect: str, rng: np.random.Generator) -> list[Defect]:
    kinds = KINDS[aspect]
    chosen = kinds if rng.random() < _BOTH_KINDS else (kinds[rng.integers(2)],)
    return [
        Defect(
            aspect,
            kind,
            int(rng.integers(1, NUM_LEVELS + 1)),
            variant=int(rng.integers(len(CAST_HUES))) if kind == "cast" else 0,
        )
        for kind in chosen
    ]


def _plausibility_defects(
    expected: Cells, defects: list[Defect], rng: np.random.Generator
) -> list[Defect]:
    """One or more of the visible objects are broken or melted, each with its own level."""
    missing = {d.cells[0] for d in defects if d.kind in ("missing", "moved")}
    extra = {d.cells[-1] for d in defects if d.kind in ("extra", "moved")}
    visible = [
        cell
        for cell in range(4)
        if cell in extra or (expected[cell] is not None and cell not in missing)
    ]
    count = int(rng.integers(1, len(visible) + 1))
    return [
        Defect(
            "plausibility",
            kind := KINDS["plausibility"][rng.integers(2)],
            int(rng.integers(1, NUM_LEVELS + 1)),
            (int(cell),),
            int(rng.integers(NUM_VARIANTS[kind])),
        )
        for cell in sorted(rng.permutation(visible)[:count])
    ]


def _apply_alignment(
    expected: Cells, defects: tuple[Defect, ...], rng: np.random.Generator
) -> Cells:
    seen = list(expected)
    for defect in defects:
        if defect.aspect != "alignment":
            continue
        if defect.kind in ("exchanged", "moved"):
            one, two = defect.cells
            seen[one], seen[two] = _exchanged(expected[one], expected[two])
            continue
        for cell in defect.cells:
            thing = expected[cell]
            if defect.kind == "extra":
                seen[cell] = THINGS[rng.integers(len(THINGS))]
            elif thing is None:
                raise ValueError(f"cell {cell} is empty, so its object cannot be {defect.kind}")
            elif defect.kind == "missing":
                seen[cell] = None
            elif defect.kind == "recolored":
                others = [colour for colour in COLOURS if colour != thing.colour]
                seen[cell] = Thing(others[rng.integers(len(others))], thing.shape)
            else:
                others = [shape for shape in SHAPES if shape != thing.shape]
                seen[cell] = Thing(thing.colour, others[rng.integers(len(others))])
    return seen[0], seen[1], seen[2], seen[3]


def _exchanged(first: Thing | None, second: Thing | None) -> tuple[Thing | None, Thing | None]:
    """Two cells after exchanging the objects' colours, or places if the colours are equal."""
    if first is None or second is None or first.colour == second.colour:
        return second, first
    return Thing(second.colour, first.shape), Thing(first.colour, second.shape)
