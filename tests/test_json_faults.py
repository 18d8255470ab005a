"""A comma too many in JSON is named with its place."""

import json
from pathlib import Path

import pytest

from zreward_core.annotations.formats.json_records import load_json
from zreward_core.annotations.formats.label_studio_export import read_export
from zreward_core.annotations.formats.records import Wanted, batches_of
from zreward_core.config import UserError
from zreward_core.json_faults import explain
from zreward_core.schemas import read_json


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('[{"a": 1},\n]', 1, 10),
        ('[\n {"a": 1,\n }\n]', 2, 9),
        ('[{"a": [1, 2, ]}]', 1, 13),
        ("[1,, 2]", 1, 4),
        ("[, 1]", 1, 2),
        ('{"a": 1},\n', 1, 9),
    ],
)
def test_an_extra_comma(tmp_path: Path, text: str, line: int, column: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    expected = f"at line {line} column {column} .*remove the comma$"
    for read in (load_json, read_export, read_json):
        with pytest.raises(UserError, match=expected):
            read(path)


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}\n', "[1 2]", '{"a": 1},\n{"a": 2}', "[1,"])
def test_another_fault(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads(text)
    assert explain(found.value, "export it again").endswith("; export it again")


def test_an_extra_comma_in_a_line() -> None:
    wanted = Wanted(("a",))
    list(batches_of([(3, '{"a": 1,}')], wanted, "line"))
    assert wanted.problems == [
        "line 3 is not a record with names and values: remove the comma at column 8"
    ]
