"""The labelling configs of projects for annotators."""

from xml.etree import ElementTree

import pytest

from zreward_core.annotations.label_studio.project import level_keys, pair_config, rating_config
from zreward_core.rubric import Dimension, Rubric


def test_ratings_repeat_every_dimension_for_each_image(rubric: Rubric) -> None:
    view = ElementTree.fromstring(rating_config(rubric, {"realism": "/served/realism.png"}))
    repeater = view.find(".//Repeater")
    assert repeater is not None and repeater.get("on") == "$images"
    blocks = repeater.findall(".//Choices")
    assert [block.get("name") for block in blocks] == ["alignment_{{idx}}", "realism_{{idx}}"]
    assert {block.get("toName") for block in blocks} == {"image_{{idx}}"}
    choices = blocks[0].findall("Choice")
    assert [one.get("value") for one in choices] == [f"{n:g}" for n in rubric.levels]
    assert choices[-1].get("hint") == "all & everything"
    panels = view.findall(".//Panel")
    assert [one.get("value", "")[:9] for one in panels] == ["Alignment", "Realism: "]
    texts = [one.get("value") for one in panels[0].findall("Header")]
    assert texts == ["5: all & everything", "1: nothing"]
    assert panels[0].find("Image") is None
    assert panels[1].find("Image").get("value") == "/served/realism.png"  # type: ignore[union-attr]


def test_pairs_ask_for_left_same_or_right(rubric: Rubric) -> None:
    view = ElementTree.fromstring(pair_config(rubric))
    blocks = view.findall(".//Choices")
    assert [block.get("name") for block in blocks] == ["alignment", "realism", "overall"]
    for block in blocks:
        assert [one.get("value") for one in block] == ["left", "same", "right"]
    keys = ["".join(one.get("hotkey", "") for one in block) for block in blocks]
    assert keys == ["123", "qwe", "asd"]
    assert [one.get("value") for one in view.findall(".//Image")] == ["$left", "$right"]


def made(levels: list[float], num_dimensions: int = 4) -> Rubric:
    names = ("alignment", "realism", "aesthetics", "plausibility", "fifth")[:num_dimensions]
    dimensions = [Dimension(name=n, title=n, question=n, levels={}) for n in names]
    labels = [chr(ord("A") + n) for n in range(len(levels))]
    return Rubric(name="r", levels=levels, labels=labels, dimensions=dimensions)


def test_keys_of_one_image_are_what_they_give() -> None:
    rubric = made([1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5], 5)
    view = ElementTree.fromstring(rating_config(rubric, {}, hotkeys=True))
    keys = {
        block.get("name", ""): {one.get("value"): one.get("hotkey") for one in block}
        for block in view.findall(".//Choices")
    }
    first = keys["alignment_{{idx}}"]
    assert first["4"] == "4" and first["4.5"] == "shift+4" and first["1"] == "1"
    assert keys["realism_{{idx}}"]["1"] == "q" and keys["realism_{{idx}}"]["2.5"] == "shift+w"
    assert keys["plausibility_{{idx}}"]["5"] == "b"
    assert set(keys["fifth_{{idx}}"].values()) == {None}
    given = [key for row in keys.values() for key in row.values() if key]
    assert len(given) == len(set(given)) == 36
    assert "hotkey" not in rating_config(rubric, {})


@pytest.mark.parametrize(
    ("levels", "first", "second"),
    [
        ([0, 1, 2], ["0", "1", "2"], ["q", "w", "e"]),
        (list(range(1, 11)), [*"1234567890"], [*"qwertyuiop"]),
        (list(range(11)), None, None),
        ([0, 0.25, 0.5], None, None),
        ([-1, 0, 1], None, ["q", "w", "e"]),
    ],
)
def test_keys_of_other_scales(
    levels: list[float], first: list[str] | None, second: list[str] | None
) -> None:
    keys = level_keys(made(levels))
    assert (keys.get("alignment"), keys.get("realism")) == (first, second)
