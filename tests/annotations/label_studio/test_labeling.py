"""The project files that Label Studio is given."""

from xml.etree import ElementTree

from zreward_core.annotations.label_studio.labeling import (
    annotation,
    export_task,
    labeling_config,
    timestamp,
)
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


def test_times_follow_from_durations() -> None:
    assert timestamp(0) == "2026-01-05T09:00:00.000000Z"
    assert timestamp(90.25) == "2026-01-05T09:01:30.250000Z"


def test_skipped_annotations_are_counted_apart() -> None:
    done = annotation(1, 7, 3, [{"id": "x"}], False, 12.0, 0.0, verbose_annotator=True)
    skipped = annotation(2, 7, 4, [], True, 2.0, 60.0, verbose_annotator=False)
    task = export_task(7, {"prompt": "p", "image": "i"}, [done, skipped])
    assert (task["total_annotations"], task["cancelled_annotations"]) == (1, 1)
    assert done["completed_by"]["id"] == 3
    assert skipped["completed_by"] == 4
    assert task["updated_at"] == skipped["created_at"] == "2026-01-05T09:01:02.000000Z"
