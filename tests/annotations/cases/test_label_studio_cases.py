"""Label Studio exports of common configurations, based on public bug reports.

Numbers refer to the cases; the inputs are generated here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.formats.label_studio_export import explain_export
from zreward_core.annotations.formats.side_by_side import one_by_one
from zreward_core.annotations.ingest.settings import Cell, Source
from zreward_core.config import UserError
from zreward_core.images import encode_png, image_id
from zreward_core.rubric import Rubric

DIMENSIONS = ["alignment", "realism", "aesthetics", "plausibility"]


def answer(name: str, value: Any, kind: str = "rating", **more: Any) -> dict:
    return {"from_name": name, "to_name": "image", "type": kind, "value": {kind: value}, **more}


def task(number: int, *results: list[dict], annotators: int = 1, **more: Any) -> dict:
    annotations = [
        {"id": 10 * number + n, "completed_by": n + annotators, "result": result}
        for n, result in enumerate(results)
    ]
    data = {"prompt": f"a boat {number}", "image": f"/data/upload/{number}.png"}
    return {"id": number, "data": data, "annotations": annotations, **more}


@pytest.fixture
def export(drops: Path, default_rubric: Rubric) -> Callable[..., Read]:
    """Reads tasks as an export."""

    def reader(tasks: Any, **settings: Any) -> Read:
        path = drops / "export.json"
        path.write_text(json.dumps(tasks))
        source = Source(**{"name": "ls", "path": path, "images": None, **settings})
        return Read(source, default_rubric, [path])

    return reader


def test_01_completions(export: Callable[..., Read]) -> None:
    tasks = [task(n, [answer(name, 3 + n) for name in DIMENSIONS]) for n in range(3)]
    for one in tasks:
        one["completions"] = one.pop("annotations")
        one["completions"][0].pop("completed_by")
    skipped = task(9, [answer("realism", 1)])
    skipped["completions"] = [{**skipped.pop("annotations")[0], "skipped": True}]
    read = export([*tasks, skipped])
    assert len(read.ratings) == 12
    assert sorted(read.ratings["score"].unique()) == [3, 4, 5]
    assert read.summary.ignored == {"skipped": 1}


def test_01_annotations_of_a_target_storage(export: Callable[..., Read]) -> None:
    one = task(4, [answer("realism", 2)])
    (annotation,) = one.pop("annotations")
    read = export({**annotation, "task": one})
    assert read.ratings["score"].tolist() == [2]
    assert read.ratings["prompt"].tolist() == ["a boat 4"]


@pytest.mark.parametrize("key", ["images", "image", "pictures"])
def test_02_item_index_gives_the_image(export: Callable[..., Read], drops: Path, key: str) -> None:
    contents = [encode_png(np.full((4, 4, 3), 60 * n, np.uint8)) for n in range(3)]
    (drops / "images/set").mkdir(parents=True)
    for name, content in zip("abc", contents, strict=True):
        (drops / f"images/set/{name}.png").write_bytes(content)
    scores = {"alignment": [[5, 3, 1], [5, 2, 1]], "realism": [[4, 2, 5], [3, 3, 4]]}
    results = [
        [
            answer(name, score, item_index=place)
            for name in scores
            for place, score in enumerate(scores[name][who])
        ]
        for who in range(2)
    ]
    one = task(1, *results)
    one["data"] = {"prompt": "a lighthouse", key: [f"set/{name}.png" for name in "abc"]}
    read = export([one], images=drops / "images")
    assert len(read.ratings) == 12 and read.resubmissions == 0
    means = read.ratings.groupby(["image_id", "dimension"])["score"].mean()
    for place, content in enumerate(contents):
        for name in scores:
            expected = np.mean([one[place] for one in scores[name]])
            assert means[image_id(content), name] == expected


def test_02_a_rating_of_no_single_image_reaches_none(export: Callable[..., Read]) -> None:
    one = task(1, [answer("alignment", 4), answer("realism", 2, item_index=5)])
    one["data"] = {"prompt": "a lighthouse", "images": ["a.png", "b.png"]}
    read = export([one])
    assert read.ratings.empty
    assert read.quarantine["reason"].tolist() == ["unknown_image"] * 2


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"pics": ["a.png", "b.png"], "captions": ["x", "y"]}, ["a.png", "b.png"]),
        ({"pics": [{"url": "a.png"}, {"url": "b.png"}]}, ["a.png", "b.png"]),
        ({"first": ["x", "y"], "second": ["u", "v"]}, [None, None]),
        ({"first": ["x", "y"], "second": ["u"]}, None),
        ({"image": "a.png"}, None),
    ],
)
def test_02_which_list_is_meant(
    export: Callable[..., Read], data: dict, found: list[str | None] | None
) -> None:
    one = task(1, [answer("alignment", 4, item_index=n) for n in (0, 1)])
    one["data"] = data
    (annotation,) = one["annotations"]
    parts = one_by_one([{**one, "annotations": [annotation]}])
    read = export([one])
    if found is None:
        assert any(part.get("unplaced") for part in parts)
        assert "unknown_image" in set(read.quarantine["reason"])
    else:
        assert [part["data"]["image"] for part in parts] == found
        assert read.ratings["item_id"].nunique() == 2


def test_02_repeater_on_another_key(export: Callable[..., Read]) -> None:
    one = task(1, [answer("alignment_1", 4), answer("alignment_0", 2)])
    one["data"] = {"prompt": "x", "pics": ["a.png", "b.png"]}
    assert export([one]).ratings["score"].tolist() == [2, 4]
    one["data"]["image_url"] = "c.png"  # the list may be references
    assert export([one]).quarantine["reason"].tolist() == ["unknown_dimension"] * 2


def test_own_keys_and_words_of_a_comparison(export: Callable[..., Read]) -> None:
    one = task(1, [answer("realism", ["Left one"], kind="choices"), answer("alignment", 4)])
    one["data"] = {"text": "x", "option1": "a.png", "option2": "b.png"}
    columns = {"prompt": "text", "image_a": "option1", "image_b": "option2"}
    read = export([one], columns={**columns, "vote": {"map": {"Left one": "a"}}})
    assert read.comparisons["vote"].tolist() == ["a"]
    assert len(read.quarantine) == 1 and read.ratings.empty


def ranked(*names: str, key: str | None = "rank") -> dict:
    value = {"ranker": list(names) if key is None else {key: list(names)}}
    return {"from_name": "alignment", "to_name": "list", "type": "ranker", "value": value}


ITEMS = [
    {"id": "m0", "html": "<img src='/data/m0.png'>"},
    {"id": "m1", "html": '<p>x</p><img class="big" src="/data/m1.png"/>'},
    {"id": "m2", "image": "/data/m2.png"},
    {"id": "m3", "html": "<img src=/data/m3.png>"},
]


def test_04_rankings_are_comparisons(export: Callable[..., Read]) -> None:
    one = task(1, [ranked("m2", "m0", "m3", "m1")], [ranked("m2", "m3", "m0", "m1", key=None)])
    one["data"] = {"prompt": "a teapot", "items": ITEMS}
    rated = task(2, [answer("alignment", 4)])
    rated["data"] = {"prompt": "a teapot", "image": "/data/m2.png"}
    read = export([one, rated])
    assert len(read.comparisons) == 12 and len(read.ratings) == 1
    assert read.summary.native == 13 and not read.summary.ignored
    wins = read.comparisons["item_a"].value_counts()
    best = read.comparisons.loc[read.comparisons["row_ref"].str.endswith("pair 1"), "item_a"]
    assert best.nunique() == 1 and wins[best.iloc[0]] == 6
    assert set(read.comparisons["vote"]) == {"a"}
    assert read.comparisons["item_a"].nunique() == 3  # m1 is always last


def test_04_what_is_no_ranking_of_images_is_quarantined(export: Callable[..., Read]) -> None:
    buckets = ranked("m0", "m1")
    buckets["value"] = {"ranker": {"good": ["m0"], "bad": ["m1", "m2"]}}
    taxonomy = answer("alignment", [["Objects", "Boat"]], kind="taxonomy")
    one = task(1, [ranked("m0", "unknown", "m2"), buckets, taxonomy, ranked("m1")])
    one["data"] = {"prompt": "a teapot", "items": ITEMS}
    read = export([one])
    assert len(read.comparisons) == 1
    reasons = read.quarantine["reason"].value_counts().to_dict()
    assert reasons == {"unknown_image": 2, "unread_kind": 2, "missing_value": 1}
    refs = read.quarantine.loc[read.quarantine["reason"] == "unread_kind", "row_ref"]
    assert [ref.rpartition(" ")[2] for ref in refs] == ["(ranker)", "(taxonomy)"]


def own_names() -> list[dict]:
    words = ["Good", "Bad", "Excellent"]
    tasks = []
    for n in range(6):
        choices = answer("prompt_match", [words[n % 3]], kind="choices")
        tasks.append(task(n, [answer("overall_quality", 5 + n), choices]))
        tasks[n]["data"] = {"text": f"a tower {n}", "image_url": f"https://example.org/{n}.png"}
    return tasks


OWN = {
    "columns": {"prompt": "text", "image": "image_url"},
    "dimension": {
        "map": {"overall_quality": "aesthetics", "prompt_match": "alignment"},
        "scales": {"overall_quality": {"min": 1, "max": 10, "higher_is_better": True}},
    },
}


def test_08_own_names_and_scales(export: Callable[..., Read]) -> None:
    read = export(own_names(), **OWN)
    assert read.ratings["native_score"].tolist() == [5, 6, 7, 8, 9, 10]
    assert read.ratings["score"].tolist() == pytest.approx([1 + (4 + n) * 4 / 9 for n in range(6)])
    assert read.ratings["prompt"].tolist() == [f"a tower {n}" for n in range(6)]
    assert read.ratings["item_id"].nunique() == 6
    assert len(read.quarantine) == 6  # words without scores
    message = explain_export(Path("data/drops/export.json"), DIMENSIONS)
    assert "overall_quality (rating), prompt_match (choices)" in message
    assert "`dimension: {map: {overall_quality: alignment}}`" in message
    assert "words: {Good: .., Bad: .., Excellent: ..}" in message
    assert "scores run from 5 to 10" in message


@pytest.mark.skipif("words" not in Cell.model_fields, reason="cells have no `words`")
def test_08_words(export: Callable[..., Read]) -> None:
    words = {"column": "score", "words": {"Bad": 1, "Good": 4, "Excellent": 5}}
    read = export(own_names(), **OWN | {"columns": OWN["columns"] | {"score": words}})
    scores = read.ratings[read.ratings["dimension"] == "alignment"]["score"]
    assert scores.tolist() == [4, 1, 5, 4, 1, 5]
    assert len(read.ratings) == 12


def test_08_a_column_that_is_in_no_task_is_refused(export: Callable[..., Read]) -> None:
    with pytest.raises(UserError, match=r"no task has 'caption' .*image_url, text.*dimension\.map"):
        export(own_names(), columns={"prompt": "caption"})


def test_08_other_keys_are_named(
    export: Callable[..., Read], caplog: pytest.LogCaptureFixture
) -> None:
    numbers = export(own_names(), dimension={"map": OWN["dimension"]["map"]})
    assert len(numbers.quarantine) + len(numbers.ratings) == 12
    for name in ("prompt", "image"):
        assert f"no task has '{name}' in its data (image_url, text)" in caplog.text
    caplog.clear()
    export([task(1, [answer("realism", 2)])])
    assert not caplog.text


def test_26_predictions_and_drafts_are_not_ratings(export: Callable[..., Read]) -> None:
    predicted = task(1, predictions=[{"model_version": "x", "result": [answer("realism", 4)]}])
    drafted = task(2, drafts=[{"result": [answer("realism", 4)]}])
    read = export([predicted, predicted, drafted])
    assert read.summary.ignored == {"prediction": 2, "draft": 1}
    assert "press Submit" in explain_export(Path("data/drops/export.json"), DIMENSIONS)
    export([predicted])
    message = explain_export(Path("data/drops/export.json"), DIMENSIONS)
    assert "1 of 1 tasks have model predictions and none has a human annotation" in message


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "has no tasks"),
        ([{"id": 1, "image": "a.png", "realism": 3, "annotator": 4}], "JSON-MIN"),
        ([{"image": "a.png", "prompt": "x"}], "tasks for import"),
        ([task(1)], "None of its 1 tasks has an annotation"),
    ],
)
def test_26_other_files(drops: Path, tasks: list[dict], message: str) -> None:
    (drops / "export.json").write_text(json.dumps(tasks))
    assert message in explain_export(drops / "export.json", DIMENSIONS)


def test_30_ratings_of_regions_are_not_of_the_image(export: Callable[..., Read]) -> None:
    box = {"x": 10, "y": 5, "width": 9, "height": 9}
    regions = []
    for n in range(3):
        label = answer("defect", ["hand"], kind="rectanglelabels", id=f"r{n}")
        label["value"] |= box
        rating = answer("plausibility", 1 + n, id=f"r{n}")
        if n:
            rating["value"] |= box
        regions += [label, rating]
    relation = {"from_id": "r0", "to_id": "r1", "type": "relation", "direction": "right"}
    read = export([task(1, [*regions, relation, answer("realism", 4, id="x")])])
    assert read.ratings[["dimension", "score"]].values.tolist() == [["realism", 4.0]]
    assert read.summary.ignored == {"event": 4, "region": 3}
    assert read.quarantine.empty and read.summary.native == 8
