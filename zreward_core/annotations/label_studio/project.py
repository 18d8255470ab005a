"""Labelling configs of Label Studio projects for people: side-by-side ratings, blind pairs.

``Repeater`` shows a block per image of a task; the names of its controls end with the image's index
(``formats.side_by_side`` reads them).
Reference: https://labelstud.io/tags/repeater
"""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from zreward_core.annotations.label_studio.labeling import choice_of
from zreward_core.rubric import Dimension, Rubric

LOCAL_FILES = "/data/local-files/?d="
"""Address of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT in Label Studio."""
SIDES = ("left", "right")
CHOICES = ("left", "same", "right")
OVERALL = "overall"
HOTKEYS = ("123", "qwe", "asd", "zxc", "456", "rty", "fgh", "vbn", "789", "uio", "jkl")
"""Keys of the choices of each question about a pair, neighbours on a keyboard."""
LETTERS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of a keyboard, for the dimensions after the first."""
STYLE = """
.images { margin-top: 24px; }
.images div:has(.image) { display: flex; flex-wrap: wrap; gap: 24px; }
.image { width: 330px; flex: 0 0 auto; }
.image img, .sides img { image-rendering: pixelated; }
.sides { display: flex; gap: 24px; }
.side { flex: 1; }
"""
Element = ElementTree.Element
_sub = ElementTree.SubElement


def rating_config(rubric: Rubric, sheets: Mapping[str, str], hotkeys: bool = False) -> str:
    """All images of a task side by side, each with one choice per dimension.

    Args:
        rubric: its level texts are shown in a panel per dimension and as hints of the choices.
        sheets: dimension to the address of its sheet of exemplars, shown in the panel.
        hotkeys: give the choices the keys of ``level_keys``; for tasks of one image, since the
            choices of all images would have the same keys.
    """
    view = Element("View")
    _sub(view, "Style").text = STYLE
    _sub(view, "Text", name="prompt", value="$prompt")
    panels = _sub(view, "Collapse", accordion="false", open="false")
    for dimension in rubric.dimensions:
        _add_panel(panels, dimension, rubric, sheets.get(dimension.name))
    images = _sub(view, "View", className="images")
    repeater = _sub(images, "Repeater", on="$images", indexFlag="{{idx}}")
    block = _sub(repeater, "View", className="image")
    _sub(block, "Image", name="image_{{idx}}", value="$images[{{idx}}].image", zoom="true")
    keys = level_keys(rubric) if hotkeys else {}
    for dimension in rubric.dimensions:
        _add_levels(block, dimension, rubric, keys.get(dimension.name, ()))
    return _text(view)


def level_keys(rubric: Rubric) -> dict[str, list[str]]:
    """Dimension to the key of each level: a row of the keyboard for each dimension.

    In the first row a whole level has its digit (10: 0); in the others the first whole level has
    the first letter. Shift adds half a point. Dimensions without a row, and rubrics whose levels
    are not whole and half points or do not fit into a row, have none.
    """
    whole = [int(level) for level in rubric.levels if level == int(level)]
    if not set(rubric.levels) <= {level + half for level in whole for half in (0, 0.5)}:
        return {}
    digits = len(whole) <= 10 and whole[0] >= 0 and whole[-1] <= 10
    rows = [{level: str(level % 10) for level in whole} if digits else {}]
    for letters in LETTERS:
        rows.append(dict(zip(whole, letters, strict=False)) if len(whole) <= len(letters) else {})
    return {
        name: [("shift+" if level % 1 else "") + row[int(level)] for level in rubric.levels]
        for name, row in zip(rubric.names, rows, strict=False)
        if row
    }


def pair_config(rubric: Rubric) -> str:
    """Two images of one prompt; on each dimension and overall: left, same or right."""
    view = Element("View")
    _sub(view, "Style").text = STYLE
    _sub(view, "Text", name="prompt", value="$prompt")
    sides = _sub(view, "View", className="sides")
    for side in SIDES:
        block = _sub(sides, "View", className="side")
        _sub(block, "Header", value=side, size="5")
        _sub(block, "Image", name=side, value=f"${side}", zoom="true")
    asked = [(one.name, f"{one.title}: which is better?") for one in rubric.dimensions]
    asked.append((OVERALL, "Overall: which is better?"))
    for number, (name, question) in enumerate(asked):
        _sub(view, "Header", value=question, size="5")
        keys = HOTKEYS[number] if number < len(HOTKEYS) else ""
        _add_choices(view, name, "left", CHOICES, question, keys=keys)
    return _text(view)


def _add_panel(panels: Element, dimension: Dimension, rubric: Rubric, sheet: str | None) -> None:
    panel = _sub(panels, "Panel", value=f"{dimension.title}: {dimension.question}")
    for level in rubric.levels[::-1]:
        if level in dimension.levels:
            value = f"{choice_of(level)}: {dimension.levels[level]}"
            _sub(panel, "Header", value=value, size="6")
    if sheet:
        _sub(panel, "Image", name=f"exemplars_{dimension.name}", value=sheet, zoom="true")


def _add_levels(block: Element, dimension: Dimension, rubric: Rubric, keys: Sequence[str]) -> None:
    _sub(block, "Header", value=dimension.title, size="6")
    values = [choice_of(level) for level in rubric.levels]
    hints = {choice_of(level): text for level, text in dimension.levels.items()}
    name, about = f"{dimension.name}_{{{{idx}}}}", "image_{{idx}}"
    _add_choices(block, name, about, values, dimension.title, hints, keys)


def _add_choices(
    view: Element,
    name: str,
    about: str,
    values: Sequence[str],
    title: str,
    hints: Mapping[str, str] | None = None,
    keys: Sequence[str] = "",
) -> None:
    choices = _sub(
        view,
        "Choices",
        name=name,
        toName=about,
        choice="single-radio",
        showInline="true",
        required="true",
        requiredMessage=f"Please judge: {title}",
    )
    for place, value in enumerate(values):
        choice = _sub(choices, "Choice", value=value)
        if place < len(keys):
            choice.set("hotkey", keys[place])
        if hints and value in hints:
            choice.set("hint", hints[value])


def _text(view: Element) -> str:
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
