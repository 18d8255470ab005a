"""Messages about records that cannot be read."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.annotations.sources import REPOSITORY
from zreward_core.config import UserError
from zreward_core.stages import ingest

STUDY: dict[str, Any] = {
    "name": "s",
    "columns": {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}


def run(drops: Path, file: str, content: str, **settings: Any) -> None:
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    (drops / file).write_text(content)
    ingest.run(ingest.Config(seed=0, sources=[{"path": drops / file, **settings}]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["q, r,1.png,x,4"],
            r"such as row 2: 5 cells, the header has 4; put cells that contain",
        ),
        (
            ["q,1.png,x,4,", "q,2.png,x,4,"],
            r"such as row 2: 5 cells, .*; remove the delimiters",
        ),
        (["q,1.png,x"], r"row 2: 3 cells, the header has 4; complete the row"),
        (['q,"1.png,x,4'], r"row 2: a quote is not closed or not doubled; correct the quotes"),
    ],
)
def test_rows_that_do_not_fit_the_header(drops: Path, rows: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run(drops, "x.csv", "\n".join(["p,i,a,s", *rows]), format="csv", **STUDY)
    assert "pattern" not in str(error.value)


def test_single_broken_rows_are_named(drops: Path, caplog) -> None:
    rows = ["p,i,a,s", "q,1.png,x,4", "q,2.png,x,3,5", "q,3.png,x,good", "q,4.png,x,4"]
    with caplog.at_level(logging.WARNING):
        run(drops, "x.csv", "\n".join(rows), format="csv", **STUDY)
    assert any("row 3: 5 cells, the header has 4" in one for one in caplog.messages)
    with pytest.raises(UserError, match=r"row 3: 5 cells, .* extract the number by"):
        run(drops, "x.csv", "\n".join(rows[:1] + rows[1:4]), format="csv", **STUDY)


def test_lines_that_are_no_records(drops: Path) -> None:
    with pytest.raises(UserError, match="line 1 is not a record with names and values"):
        run(drops, "x.jsonl", '["q", "1.png"]\n', format="jsonl", **STUDY)


def test_tasks_with_ids_of_annotations(drops: Path) -> None:
    task = {"id": 1, "data": {"prompt": "q", "image": "a.png"}, "annotations": [11, 12]}
    with pytest.raises(UserError, match=r"by id only, .*: export the project as JSON, with"):
        run(drops, "x.json", json.dumps([task]), name="s", images=None)


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        ({"completed_by": {"id": None, "email": "b@x"}}, "b@x"),
        ({"completed_by": {"id": 3, "email": "b@x"}}, "3"),
        ({"completed_by": None, "created_username": "bo, 3"}, "bo, 3"),
        ({"completed_by": 3, "created_username": "bo, 3"}, "3"),
    ],
)
def test_annotators_of_an_export(read, drops: Path, person: dict, expected: str) -> None:
    result = {"from_name": "alignment", "type": "choices", "value": {"choices": ["4"]}}
    annotation = {"id": 1, "result": [result], **person}
    task = {"id": 1, "data": {"prompt": "q", "image": "a.png"}, "annotations": [annotation]}
    (drops / "x.json").write_text(json.dumps([task]))
    assert read(drops / "x.json", images=None).ratings["annotator_id"].tolist() == [expected]
