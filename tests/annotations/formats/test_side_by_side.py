"""Tasks of several images are split without losing or duplicating a judgement."""

from typing import Any

from zreward_core.annotations.formats.label_studio_export import count_native
from zreward_core.annotations.formats.side_by_side import one_by_one


def item(name: str, choice: str = "3") -> dict:
    return {"from_name": name, "type": "choices", "value": {"choices": [choice]}}


def task(*annotations: Any, images: Any = ({"image": "a.png"}, {"image": "b.png"})) -> dict:
    data = {"prompt": "a cat", "images": list(images)}
    return {"id": 7, "data": data, "annotations": list(annotations)}


def test_each_image_gets_its_own() -> None:
    result = [item("alignment_0", "1"), item("alignment_1", "5"), item("realism_1", "4")]
    first, second = one_by_one([task({"id": 1, "result": result, "lead_time": 12.0})])
    assert (first["data"]["image"], second["data"]["image"]) == ("a.png", "b.png")
    assert first["data"]["prompt"] == "a cat"
    assert [one["from_name"] for one in first["annotations"][0]["result"]] == ["alignment"]
    names = [one["from_name"] for one in second["annotations"][0]["result"]]
    assert names == ["alignment", "realism"]
    assert {part["annotations"][0]["lead_time"] for part in (first, second)} == {6.0}
    assert first["id"] != second["id"]


def test_nothing_is_counted_twice_or_lost() -> None:
    annotations = [
        {"result": [item("alignment_0"), item("alignment_1"), item("comment")]},
        {"result": [item("alignment_9"), item("alignment_x"), item("_1"), "no object"]},
        {"result": [], "was_cancelled": False},
        {"result": [item("alignment_1")], "was_cancelled": True},
        {"result": None},
        "no object",
    ]
    whole = [task(*annotations), task(), task(images=[])]
    parts = one_by_one(whole)
    assert count_native(parts) == count_native(whole)
    assert sum(len(part["annotations"]) for part in parts) == len(annotations) + 3
    unplaced = [part for part in parts if part.get("unplaced")]
    assert [len(one["result"]) for part in unplaced for one in part["annotations"]] == [1, 3]
    assert unplaced[0]["data"]["image"] is None


def test_other_tasks_stay_as_they_are() -> None:
    others = [{"data": {"image": "a.png"}, "annotations": []}, "no object", {"data": None}, None]
    assert one_by_one(others) == others


def test_images_may_be_plain_addresses() -> None:
    (part,) = one_by_one([task({"result": [item("alignment_1")]}, images=["a.png", "b.png"])])
    assert part["data"]["image"] == "b.png"


def test_item_index_gives_the_image() -> None:
    result = [{**item("rating_1", choice), "item_index": n} for n, choice in enumerate("531")]
    data = {"pictures": ["a.png", "b.png", "c.png"], "model": ["x", "y", "z"], "prompt": "a cat"}
    whole = {"id": 7, "data": data, "annotations": [{"id": 1, "result": result}]}
    parts = one_by_one([whole])
    assert [part["data"]["image"] for part in parts] == ["a.png", "b.png", "c.png"]
    assert [part["data"]["model"] for part in parts] == ["x", "y", "z"]
    (name,) = {one["from_name"] for part in parts for one in part["annotations"][0]["result"]}
    assert name == "rating_1"
    data["pictures"] = ["a.png", "b.png"]
    data.pop("model")
    assert [part.get("unplaced", False) for part in one_by_one([whole])] == [True, False, False]
