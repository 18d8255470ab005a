"""Prompts of the miniature world: the required content of the four cells of an image.

Cells are numbered in reading order: 0 top left, 1 top right, 2 bottom left, 3 bottom right.
Prompts follow the categories of GenEval (arXiv:2310.11513): a single object at a position, two
objects with their colours (binding), counting, and spatial relations between two objects.
"""

import re
from dataclasses import dataclass
from itertools import product

import numpy as np

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
PLACES = ("top left", "top right", "bottom left", "bottom right")
SIDES = {
    "at the top": (0, 1),
    "at the bottom": (2, 3),
    "on the left": (0, 2),
    "on the right": (1, 3),
}
COUNTS = ("a", "two", "three", "four")
CATEGORIES = ("single", "two objects", "counting", "relation")
"""Categories of prompts: one object, two, several of a kind, one placed relative to another."""
RELATIONS = {"to the right of": (0, 1), "below": (0, 2), "above": (3, 1), "to the left of": (3, 2)}
"""Relation to the cell of the reference object and the cell of the related object."""

_RELATED = re.compile(rf"(?P<first>.+) with (?P<second>a .+) (?P<words>{'|'.join(RELATIONS)}) it")
_GROUP = re.compile(
    rf"(?P<count>{'|'.join(COUNTS)}) (?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})"
    rf"(?P<plural>s?)(?: (?P<place>at the (?:{'|'.join(PLACES)})|{'|'.join(SIDES)}))?"
)


@dataclass(frozen=True)
class Thing:
    """One object: a colour and a shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


Cells = tuple[Thing | None, Thing | None, Thing | None, Thing | None]
"""Content of each of the four cells; None is an empty cell."""

THINGS = tuple(Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES))


def all_prompts() -> list[str]:
    """Every prompt of the world, in a fixed order; no two describe the same image."""
    singles = [_single(thing, cell) for cell in range(4) for thing in THINGS]
    pairs = [_pair(thing, side) for side in SIDES for thing in THINGS]
    prompts = [*singles, *pairs, *(f"four {thing}s" for thing in THINGS)]
    for first, second in product(THINGS, THINGS):
        if first == second:
            continue
        prompts += [
            f"{_single(first, one)} and {_single(second, two)}" for one, two in ((0, 3), (1, 2))
        ]
        prompts += [
            f"{_single(first, one)} with a {second} {words} it"
            for words, (one, _) in RELATIONS.items()
        ]
        prompts += [
            f"{_pair(first, side)} and {_single(second, cell)}"
            for side, cells in SIDES.items()
            for cell in range(4)
            if cell not in cells
        ]
        prompts += [f"three {first}s and {_single(second, cell)}" for cell in range(4)]
        prompts += [
            f"{_pair(first, one)} and {_pair(second, two)}"
            for one, two in (("at the top", "at the bottom"), ("on the left", "on the right"))
        ]
    return prompts


def sample_prompts(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct prompts in random order.

    Raises:
        ValueError: the world has fewer than ``count`` prompts.
    """
    prompts = all_prompts()
    if count > len(prompts):
        raise ValueError(
            f"world: {count} prompts requested, but only {len(prompts)} distinct ones exist;"
            " lower the numbers of prompts in params.yaml"
        )
    return [prompts[index] for index in rng.permutation(len(prompts))[:count]]


def parse_prompt(text: str) -> Cells | None:
    """The required content of each cell; None if the text is not a prompt of this world.

    Case and spacing are ignored.
    """
    cells: list[Thing | None] = [None] * 4
    remainder: Thing | None = None
    for part in _with_places(" ".join(text.casefold().split())).split(" and "):
        match = _GROUP.fullmatch(part)
        if match is None or (match["count"] == "a") == bool(match["plural"]):
            return None
        places = _places(match["count"], match["place"])
        if places is None or any(cells[cell] is not None for cell in places):
            return None
        thing = Thing(match["colour"], match["shape"])
        for cell in places:
            cells[cell] = thing
        if match["count"] == "three":
            if remainder is not None:
                return None
            remainder = thing
    if remainder is not None:
        if sum(cell is not None for cell in cells) != 1:
            return None
        cells = [remainder if cell is None else cell for cell in cells]
    return cells[0], cells[1], cells[2], cells[3]


def category(prompt: str) -> str:
    """The category (one of ``CATEGORIES``) of a prompt of this world."""
    if _RELATED.fullmatch(" ".join(prompt.casefold().split())):
        return "relation"
    counts = [match["count"] for match in _GROUP.finditer(prompt.casefold())]
    if any(count != "a" for count in counts):
        return "counting"
    return "single" if len(counts) == 1 else "two objects"


def _with_places(text: str) -> str:
    """Rewrite a relation with the places of both objects; any other text is returned unchanged."""
    match = _RELATED.fullmatch(text)
    if match is None:
        return text
    for words, (one, two) in RELATIONS.items():
        if match["words"] == words and match["first"].endswith(f" at the {PLACES[one]}"):
            return f"{match['first']} and {match['second']} at the {PLACES[two]}"
    return text


def _single(thing: Thing, cell: int) -> str:
    return f"a {thing} at the {PLACES[cell]}"


def _pair(thing: Thing, side: str) -> str:
    return f"two {thing}s {side}"


def _places(count: str, place: str | None) -> tuple[int, ...] | None:
    """Cells of a group: () for three objects (they fill the rest), None if malformed."""
    if count == "three" and place is None:
        return ()
    if count == "four" and place is None:
        return (0, 1, 2, 3)
    if count == "two" and place in SIDES:
        return SIDES[place]
    if count == "a" and place is not None and place.removeprefix("at the ") in PLACES:
        return (PLACES.index(place.removeprefix("at the ")),)
    return None
