"""Raw Label Studio exports: every judgement is accounted for, each fault with its reason."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotations.sources import Read
from zreward_core.annotations.formats.label_studio_export import count_native
from zreward_core.annotations.ingest.accounting import TABLES, Judgements
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError
from zreward_core.images import encode_png, image_id, write_images
from zreward_core.rubric import Rubric
from zreward_core.schemas import item_id, prompt_id

PNG = encode_png(np.zeros((4, 4, 3), np.uint8))
IMAGE = image_id(PNG)


def choice(name: Any, *values: Any, kind: str = "choices") -> dict:
    value = {kind: list(values) if kind == "choices" else values[0]}
    return {"from_name": name, "to_name": "image", "type": kind, "value": value}


def annotated(number: int, *result: dict, by: Any = 1, **more: Any) -> dict:
    return {"id": number, "completed_by": by, "result": list(result), **more}


def task(number: int, *annotations: Any, image: Any = f"images/{IMAGE}.png", **data: Any) -> dict:
    data = {"prompt": "a red circle", "image": image, **data}
    return {"id": number, "data": data, "annotations": list(annotations)}


class Rows:
    """The tables of an export as lists of rows, and its counts."""

    def __init__(self, read: Read) -> None:
        rows = {
            name: getattr(read, name).astype(object).replace({np.nan: None}).to_dict("records")
            for name in TABLES
        }
        self.ratings, self.comparisons = rows["ratings"], rows["comparisons"]
        self.quarantine = rows["quarantine"]
        self.ignored, self.num_native = read.summary.ignored, read.summary.native

    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(row["reason"] for row in self.quarantine).items()))


@pytest.fixture
def read(tmp_path: Path, rubric: Rubric, monkeypatch: pytest.MonkeyPatch):
    """A function that reads tasks as an export; the current folder is an empty project."""
    monkeypatch.chdir(tmp_path)
    write_images([PNG], Path("data/candidates/images"))
    path = Path("data/drops/export.json")
    path.parent.mkdir()

    def reader(tasks: Any, **settings: Any) -> Rows:
        if isinstance(tasks, bytes):
            path.write_bytes(tasks)
        else:
            path.write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))
        source = Source(**{"name": "study", "path": path, **settings})
        return Rows(Read(source, rubric, [path]))

    return reader


def test_all_columns_of_a_rating(read) -> None:
    person = {"id": 7, "email": "x@example.org"}
    more = {"created_at": "2026-01-05T09:00:00Z", "lead_time": 12.5, "was_cancelled": False}
    rows = read([task(12, annotated(3, choice("alignment", "3.5"), by=person, **more))])
    assert rows.ratings == [
        {
            "item_id": item_id("a red circle", IMAGE),
            "prompt_id": prompt_id("a red circle"),
            "prompt": "a red circle",
            "image_id": IMAGE,
            "generator": None,
            "annotator_id": "7",
            "submitted_at": "2026-01-05T09:00:00Z",
            "seconds": 12.5,
            "source": "study",
            "dimension": "alignment",
            "score": 3.5,
            "native_score": 3.5,
            "row_ref": "data/drops/export.json#task 12 annotation 3 alignment",
        }
    ]


def test_stars_numbers_and_off_grid_scores_are_read(read) -> None:
    result = [
        choice("alignment", 4, kind="rating"),
        choice("realism", 3.7, kind="number"),
        choice("realism", "2.25"),
    ]
    rows = read([task(1, annotated(1, *result))])
    assert [row["score"] for row in rows.ratings] == [4.0, 3.7, 2.25]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (choice("alignment", "55"), "out_of_range"),
        (choice("alignment", "0.5"), "out_of_range"),
        (choice("alignment", 1e999, kind="number"), "out_of_range"),
        (choice("alignment"), "missing_value"),
        (choice("alignment", None, kind="rating"), "missing_value"),
        (choice("alignment", "nan"), "missing_value"),
        ({"from_name": "alignment", "type": "choices"}, "missing_value"),
        (choice("overall", "3"), "unknown_dimension"),
        ({"value": {"choices": ["3"]}}, "malformed_record"),
        (choice("alignment", "good"), "malformed_record"),
        (choice("alignment", "3", "4"), "malformed_record"),
        (choice("alignment", True, kind="rating"), "malformed_record"),
        (choice("alignment", 10**400, kind="number"), "malformed_record"),
        (choice("alignment", "left", kind="pairwise"), "unknown_image"),
        (choice("alignment", [["good"]], kind="taxonomy"), "unread_kind"),
        ("text", "malformed_record"),
    ],
)
def test_faulty_judgements_are_quarantined(read, result: Any, reason: str) -> None:
    rows = read([task(5, annotated(9, result, choice("realism", "2")))])
    assert [row["reason"] for row in rows.quarantine] == [reason]
    assert "#task 5 annotation 9 " in rows.quarantine[0]["row_ref"]
    assert [row["score"] for row in rows.ratings] == [2.0]
    assert rows.num_native == 2


@pytest.mark.parametrize(
    "broken",
    [
        "text",
        {"id": 2},
        {"id": 2, "annotations": None, "data": {}},
        task(2, "text"),
        task(2, {"id": 4}),
        task(2, annotated(4, choice("alignment", "3")), prompt=17),
        {"id": 2, "annotations": [annotated(4, choice("alignment", "3"))]},
    ],
)
def test_truncated_records_are_quarantined(read, broken: Any) -> None:
    rows = read([broken])
    assert rows.reasons() == {"malformed_record": 1}
    assert rows.num_native == 1


def test_entries_without_a_judgement_are_ignored_and_counted(read) -> None:
    comment = {"from_name": "why", "type": "textarea", "value": {"text": ["blurred"]}}
    rows = read(
        [
            task(1),
            task(2, annotated(1)),
            task(3, annotated(2, was_cancelled=True)),
            task(4, annotated(3, *[choice("alignment", "3")] * 2, was_cancelled=True)),
            task(5, annotated(4, comment, choice("alignment", "3"))),
        ]
    )
    assert rows.ignored == {"empty_result": 2, "skipped": 3, "event": 1}
    assert len(rows.ratings) == 1
    assert rows.num_native == 7


def test_every_submission_is_kept(read) -> None:
    judged = [annotated(n, choice("alignment", "3"), choice("alignment", "4")) for n in (1, 2)]
    assert len(read([task(1, *judged)]).ratings) == 4


def test_tasks_of_merged_projects_may_have_equal_ids(read) -> None:
    judged = annotated(1, choice("alignment", "3"), choice("realism", "2"))
    first, second = task(1, judged, image=None), task(1, judged, image=None, prompt="a blue star")
    rows = read([first, second])
    assert [row["prompt"] for row in rows.ratings] == ["a red circle"] * 2 + ["a blue star"] * 2
    assert len({row["item_id"] for row in rows.ratings}) == 2
    assert len({row["row_ref"] for row in rows.ratings}) == 4


def test_the_same_annotation_twice_counts_once(read) -> None:
    judged = annotated(1, choice("alignment", "3"), choice("realism", "2"))
    changed = annotated(1, choice("alignment", "4"))
    rows = read([task(1, judged, judged), task(2, judged), task(1, judged), task(1, changed)])
    assert [row["score"] for row in rows.ratings] == [3.0, 2.0, 3.0, 2.0, 4.0]
    assert rows.ignored == {"duplicate": 4}
    assert rows.num_native == 9


def test_an_absent_image_leaves_the_rating(read) -> None:
    judged = [annotated(n, choice("alignment", "3"), by=n) for n in (1, 2)]
    rows = read([task(1, *judged, image="/data/upload/1/gone.png"), task(2, judged[0], image=None)])
    assert [row["image_id"] for row in rows.ratings] == [None] * 3
    items = [row["item_id"] for row in rows.ratings]
    # Task 1 was judged by two people and is one item; task 2 is another.
    assert items[0] == items[1] != items[2]


def test_a_study_without_prompts_is_read(read) -> None:
    rows = read([task(1, annotated(1, choice("alignment", "3")), prompt=None)])
    assert rows.ratings[0]["prompt_id"] is None
    assert rows.ratings[0]["image_id"] == IMAGE


@pytest.mark.parametrize(
    "reference",
    [
        f"images/{IMAGE}.png",
        f"/data/upload/3/1a2b3c4d-{IMAGE}.png",
        f"/data/local-files/?d=images/{IMAGE}.png",
        f"https://example.org/images/{IMAGE}.png?token=x",
    ],
)
def test_images_are_found_by_their_id(read, reference: str) -> None:
    rows = read([task(1, annotated(1, choice("alignment", "3")), image=reference)])
    assert rows.ratings[0]["image_id"] == IMAGE


def test_plain_image_files(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("data/drops/images")
    folder.mkdir()
    (folder / "good.png").write_bytes(PNG)
    (folder / "broken.png").write_bytes(PNG[:20])
    (folder / "text.png").write_text("no image")
    Image.new("RGB", (60, 60)).save(folder / "large.png")
    (folder.parent / "outside.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(tmp_path / "data/drops/outside.png")
    monkeypatch.setattr("zreward_core.images.decoding.MAX_PIXELS", 3000)
    expected = {
        "good.png": None,
        "/data/local-files/?d=good.png": None,
        "https://host/some/where/good.png": None,
        "broken.png": "unreadable_image",
        "text.png": "unreadable_image",
        "large.png": "image_too_large",
        "../outside.png": "path_outside_drop",
        "/data/local-files/?d=../outside.png": "path_outside_drop",
        "link.png": "path_outside_drop",
        "a\0b.png": "path_outside_drop",
    }
    for reference, reason in expected.items():
        judged = annotated(1, choice("alignment", "3"))
        rows = read([task(1, judged, image=reference)], images=folder)
        assert list(rows.reasons()) == ([reason] if reason else []), reference
        assert [row["image_id"] for row in rows.ratings] == ([] if reason else [IMAGE]), reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": 1,\n "data"', "line 2 column 8"),
        ("", "line 1 column 1"),
        ('{"id": 1}', "a list of tasks"),
        ("[" * 100_000, "not a readable JSON export|not valid JSON"),
    ],
)
def test_unreadable_exports_name_the_place(read, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(text)
    assert "export.json" in str(caught.value)


def test_encodings(read) -> None:
    tasks = [task(1, annotated(1, choice("alignment", "3")), prompt="ein grüner Kreis")]
    rows = read(b"\xef\xbb\xbf" + json.dumps(tasks, ensure_ascii=False).encode())
    assert rows.ratings[0]["prompt"] == "ein grüner Kreis"
    with pytest.raises(UserError, match=r"export.json: byte \d+ is not UTF-8"):
        read(json.dumps(tasks, ensure_ascii=False).encode("latin-1"))


def test_lone_surrogates_become_writable_text(read) -> None:
    text = json.dumps([task(1, annotated(1, choice("alignment", "3")), prompt="a \ud800 star")])
    assert read(text).ratings[0]["prompt"] == r"a \ud800 star"
    text = json.dumps([task(1, annotated(1, choice("\ud800", "3")))])
    (row,) = read(text).quarantine
    for value in row.values():
        value.encode()


def test_counting_and_reading_are_separate() -> None:
    # The account can only fail if the two can differ.
    number = count_native([task(1, annotated(1, {}, {}))])
    tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    judgements = Judgements(**tables, ignored=Counter(event=1), num_native=number)
    with pytest.raises(AssertionError, match="2 native judgements, 1 accounted for"):
        judgements.check_account("study")


def test_settings_override_those_of_the_format(read) -> None:
    judged = annotated(1, choice("beauty", "7"), choice("alignment", "3"), choice("why", "x"))
    rows = read(
        [task(1, judged, caption="a blue star")],
        scale={"min": 0, "max": 10, "higher_is_better": True},
        dimension={"map": {"beauty": "realism", "why": None}},
        columns={"prompt": "data.caption"},
    )
    found = [(row["dimension"], row["score"], row["prompt"]) for row in rows.ratings]
    assert found == [
        ("realism", pytest.approx(3.8), "a blue star"),
        ("alignment", pytest.approx(2.2), "a blue star"),
    ]
    assert rows.ignored == {"event": 1}


def test_one_export_with_ratings_and_comparisons(read) -> None:
    tasks = [
        task(2, annotated(1, choice("alignment", "3"), choice("alignment", "9"))),
        compared(pairwise("alignment", {"selected": "left"}), pairwise("alignment", {})),
        task(3, annotated(5, choice("realism", "2"))),
    ]
    rows = read(tasks)
    assert [row["score"] for row in rows.ratings] == [3.0, 2.0]
    assert [row["vote"] for row in rows.comparisons] == ["a"]
    assert rows.reasons() == {"missing_value": 1, "out_of_range": 1}
    assert rows.num_native == 5


def pairwise(name: str, value: dict[str, Any], kind: str = "pairwise") -> dict[str, Any]:
    return {"from_name": name, "to_name": "a,b", "type": kind, "value": value}


def compared(*results: dict[str, Any], second: str = "other.png") -> dict[str, Any]:
    data = {"prompt": "a star", "image_a": f"images/{IMAGE}.png", "image_b": second}
    return {"id": 1, "data": data, "annotations": [annotated(7, *results, by=4)]}


def test_two_images_side_by_side_are_compared(read) -> None:
    rows = read(
        [
            compared(
                pairwise("alignment", {"selected": "left"}),
                pairwise("alignment", {"selected": "right"}),
                pairwise("realism", {"choices": ["Tie"]}, "choices"),
                pairwise("realism", {"choices": ["both bad"]}, "choices"),
            )
        ]
    )
    assert [row["vote"] for row in rows.comparisons] == ["a", "b", "tie", "both_bad"]
    assert rows.comparisons[0]["annotator_id"] == "4"
    assert rows.comparisons[0]["item_a"] != rows.comparisons[0]["item_b"]
    rated = read([task(1, annotated(1, choice("alignment", "3")), prompt="a star")])
    assert rows.comparisons[0]["item_a"] == rated.ratings[0]["item_id"]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (pairwise("alignment", {}), "missing_value"),
        (pairwise("alignment", {"selected": "middle"}), "malformed_record"),
        (pairwise("alignment", {"choices": ["a", "b"]}, "choices"), "malformed_record"),
        (pairwise("overall", {"selected": "left"}), "unknown_dimension"),
    ],
)
def test_faulty_comparisons_are_quarantined(read, result: Any, reason: str) -> None:
    rows = read([compared(result)])
    assert rows.reasons() == {reason: 1}
    assert not rows.comparisons
