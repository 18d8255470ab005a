"""The labelling config of a project with one image per task."""

from xml.etree import ElementTree

from zreward_core.annotations.label_studio.labeling import labeling_config
from zreward_core.rubric import Rubric


def test_config_has_one_choices_block_a_dimension(rubric: Rubric) -> None:
    view = ElementTree.fromstring(labeling_config(rubric))
    blocks = view.findall("Choices")
    assert [block.get("name") for block in blocks] == ["alignment", "realism"]
    assert {block.get("toName") for block in blocks} == {"image"}
    values = [choice.get("value") for choice in blocks[0].findall("Choice")]
    assert values == ["1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5"]
    hints = {choice.get("value"): choice.get("hint") for choice in blocks[0].findall("Choice")}
    assert hints["5"] == "all & everything"
    assert hints["3"] is None
    assert view.find("Image").get("value") == "$image"  # type: ignore[union-attr]
    assert view.find("Text").get("value") == "$prompt"  # type: ignore[union-attr]
