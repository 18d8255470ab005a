"""Files of Label Studio besides its export: pages of the API, and JSON Lines of its storages."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.annotations.formats.test_label_studio import annotated, choice, task
from tests.annotations.sources import Read
from zreward_core.annotations.formats.label_studio_export import explain_export
from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError
from zreward_core.rubric import Rubric

TASKS = [task(n, annotated(10 * n, choice("alignment", str(n)), by=n)) for n in (1, 2)]
STORED = [{**one["annotations"][0], "task": {**one, "annotations": []}} for one in TASKS]
"""Annotations as a target storage has them."""


@pytest.fixture
def read(drops: Path, default_rubric: Rubric) -> Callable[..., Read]:
    """Reads a text as a file of Label Studio."""

    def reader(text: str, name: str = "a.json") -> Read:
        (drops / name).write_text(text)
        source = Source(name="ls", path=drops, images=None)
        return Read(source, default_rubric, source_files(source))

    return reader


def lines(*contents: Any) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in contents)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (json.dumps({"tasks": TASKS, "total": 2, "total_annotations": 2}), "a.json"),
        (json.dumps({"count": 2, "next": None, "previous": None, "results": TASKS}), "a.json"),
        (lines(*TASKS), "a.jsonl"),
        (lines(*TASKS).replace("\n", "\r\n\r\n"), "a.json"),
        (lines(*STORED), "a.jsonl"),
    ],
)
def test_every_form_has_the_ratings_and_references_of_the_export(
    read: Callable[..., Read], text: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(text, name)
    assert found.summary.native == 2 and found.quarantine.empty
    assert found.ratings["native_score"].tolist() == [1, 2]
    assert found.ratings["annotator_id"].tolist() == ["1", "2"]
    refs = [ref.rpartition("/")[2] for ref in found.ratings["row_ref"]]
    assert refs == [f"{name}#task {n} annotation {10 * n} alignment" for n in (1, 2)]
    assert "page" not in caplog.text


def test_lines_without_ids_and_unreadable_ones_are_named_by_their_number(
    read: Callable[..., Read],
) -> None:
    first, second = ({key: one[key] for key in ("data", "annotations")} for one in TASKS)
    found = read(f"{lines(first)}\n{{broken\n[1]\n{lines(second)}", "a.jsonl")
    assert found.summary.native == 4
    refs = [ref.partition("#")[2] for ref in found.ratings["row_ref"]]
    assert refs == [f"task in line {n} annotation {m} alignment" for n, m in ((1, 10), (5, 20))]
    bad = found.quarantine.sort_values("row_ref")
    assert [ref.partition("#")[2] for ref in bad["row_ref"]] == ["task in line 3", "task in line 4"]
    assert bad["raw"].tolist() == ["{broken", "[1]"]


def test_annotations_of_one_task_on_several_lines_are_all_read(read: Callable[..., Read]) -> None:
    again = annotated(11, choice("alignment", "4"), by=3) | {"task": STORED[0]["task"]}
    found = read(lines(STORED[0], again, STORED[0]))
    assert found.ratings["native_score"].tolist() == [1, 4]
    assert found.summary.ignored == {"duplicate": 1}


def test_a_page_of_several_is_named(
    read: Callable[..., Read], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read(json.dumps({"tasks": TASKS, "total": 50}))
    assert "a.json: a page of Label Studio's API with 2 of 50 tasks" in caplog.text


@pytest.mark.parametrize(
    "listed",
    [
        {"tasks": [{"id": 1, "data": {"prompt": "a"}, "annotations_ids": "4"}], "total": 1},
        {"results": [{"id": 4, "task": 1, "result": [choice("alignment", "4")]}], "count": 1},
    ],
)
def test_annotations_or_tasks_by_id_only_are_explained(drops: Path, listed: dict) -> None:
    (drops / "a.json").write_text(json.dumps(listed))
    assert "by id only" in explain_export(drops / "a.json", ["alignment"])


def test_a_damaged_export_is_not_taken_for_json_lines(read: Callable[..., Read]) -> None:
    text = json.dumps(TASKS, indent=1)
    for damaged in (text[:-2], text.replace("[", "", 1), json.dumps(TASKS[0])[:-1]):
        with pytest.raises(UserError, match="not valid JSON at line"):
            read(damaged)
