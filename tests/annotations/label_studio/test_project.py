"""The labelling configs of projects for annotators."""

from xml.etree import ElementTree

from zreward_core.annotations.label_studio.project import pair_config, rating_config
from zreward_core.rubric import Rubric


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
