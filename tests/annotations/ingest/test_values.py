"""Cells: numbers, words, identifiers and lists."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zreward_core.annotations.ingest.column_settings import Cell, as_word
from zreward_core.annotations.ingest.list_cells import number_lists, text_lists
from zreward_core.annotations.ingest.rounded_identifiers import are_rounded
from zreward_core.annotations.ingest.values import (
    MALFORMED,
    MISSING,
    OK,
    identifiers,
    numbers,
    parse_number,
)
from zreward_core.config import UserError

STARS = {"min": 1, "max": 5, "higher_is_better": True}


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("4.5", None, 4.5),
        ("4,5", None, 4.5),
        ("-0,25", None, -0.25),
        ("0,125", None, 0.125),
        ("1,234", None, MALFORMED),
        ("1,234", ",", 1.234),
        ("1,234", ".", 1234.0),
        ("1.234", ",", 1234.0),
        ("1.234,5", None, 1234.5),
        ("1,234.5", None, 1234.5),
        ("1,234,567", None, 1234567.0),
        ("4,5", ".", MALFORMED),
        ("4.5", ",", MALFORMED),
        ("4,5,3", None, MALFORMED),
        ("4.5,3", None, MALFORMED),
        ("1_000", None, MALFORMED),
        ("4 stars", None, MALFORMED),
        ("N/A", None, MISSING),
        (" ", None, MISSING),
    ],
)
def test_numbers_in_text(text: str, decimal: str | None, expected: float) -> None:
    number, state = parse_number(text, decimal)
    if state == OK:
        assert number == expected
    else:
        assert state == expected and math.isnan(number)
    (value,), (same,) = numbers(pa.array([text]), None, decimal)
    assert same == state and (state != OK or value == number)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10, 20, None]),
        pa.array([10.0, 20.0, math.nan]),
        pa.array(["10", "20", ""]),
        pa.array([10, 20, None]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_patterns_hold_for_numbers_of_any_type(column: pa.Array) -> None:
    cell = Cell(column="x", pattern=r"^(\d)0$", to=r"\1")
    values, states = numbers(column, cell)
    assert values[:2].tolist() == [1.0, 2.0] and states.tolist() == [OK, OK, MISSING]


def test_words_are_scores_and_null_is_an_empty_cell() -> None:
    cell = Cell(column="x", pattern=r"^\d - ", words={"Good": 4, "Very poor": 1, "n. a.": None})
    column = pa.array(["4 - Good", " Very poor ", "n. a.", "3", "Fair", None])
    values, states = numbers(column, cell)
    assert states.tolist() == [OK, OK, MISSING, OK, MALFORMED, MISSING]
    assert values[[0, 1, 3]].tolist() == [4.0, 1.0, 3.0]
    words = {True: 1, False: 0}
    values, _ = numbers(pa.array(["True", "false"]), Cell(column="x", words=words))
    assert values.tolist() == [1.0, 0.0]


def test_words_of_any_type_are_compared_alike() -> None:
    assert as_word(1) == as_word("1.0") == as_word(1.0) == as_word(" 1 ") == "1"
    assert as_word(True) == as_word("TRUE") == "true"
    assert as_word(1058263544937218100) != as_word(1058263544937218101)
    assert as_word(1234567) != as_word(1234568)
    assert as_word(0.5) == as_word(".50")


def test_identifiers_that_a_tool_wrote_as_floats() -> None:
    found = identifiers(pa.array(["12", "12.0", "a.0", "7.50"]), Cell(column="x"))
    assert found.take().to_pylist() == ["12", "12", "a.0", "7.50"]
    found = identifiers(pa.array([12.0, math.nan]), Cell(column="x"))
    assert found.take().to_pylist() == ["12", None]


def test_one_rater_in_two_files_with_different_types(read, drops: Path) -> None:
    columns = {"item": "id", "annotator_id": "who", "score": "stars"}
    settings = {"columns": columns, "dimension": "realism", "scale": STARS}
    (drops / "a.csv").write_text("id,who,stars\n1.0,12.0,4\n")
    (drops / "a.json").write_text(json.dumps([{"id": 1, "who": 12, "stars": 4}]))
    tables = [read(drops / f"a.{one}", format=one, **settings).ratings for one in ("csv", "json")]
    assert tables[0]["annotator_id"].tolist() == tables[1]["annotator_id"].tolist() == ["12"]
    assert tables[0]["item_id"].tolist() == tables[1]["item_id"].tolist()


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["4,5|3,5|2,0", "4,5"], None, [[4.5, 3.5, 2.0], [4.5]]),
        (["4,5,3", "4,5"], None, [[4, 5, 3], [4, 5]]),
        (["4, 5"], None, [[4, 5]]),
        (["4,5"], None, [None]),
        (["4,5"], ",", [[4, 5]]),
        (["4,5/3"], "/", [[4.5, 3]]),
        (["4,5 3,5"], None, [[4.5, 3.5]]),
        (["[4, 5.5]", "[4 5]", "['4', '5']", "(4,5)"], None, [[4, 5.5], [4, 5], [4, 5], [4, 5]]),
        (["4;5", "3"], None, [[4, 5], [3]]),
        (["4 5 3"], None, [[4, 5, 3]]),
    ],
)
def test_separators_of_list_cells(cells: list, separator: str | None, expected: list) -> None:
    cell = Cell(column="x", separator=separator)
    values, states, lengths = number_lists(pa.array(cells), cell)
    assert lengths.tolist() == [1 if one is None else len(one) for one in expected]
    if expected == [None]:
        assert states.tolist() == [MALFORMED]
    else:
        assert values.tolist() == [value for one in expected for value in one]


def test_words_in_list_cells_and_lists_of_texts() -> None:
    cell = Cell(column="x", words={"good": 4, "bad": 1})
    values, states, lengths = number_lists(pa.array(["good|bad", None, "good|fair"]), cell)
    assert lengths.tolist() == [2, 1, 2]
    assert states.tolist() == [OK, OK, MISSING, OK, MALFORMED]
    assert values[[0, 1, 3]].tolist() == [4.0, 1.0, 4.0]
    flat, lengths = text_lists(pa.array(["anna|bo", "[7, 8]", ""]), Cell(column="x"))
    assert flat.to_pylist() == ["anna", "bo", "7", "8"] and lengths.tolist() == [2, 2, 0]


def test_deviations_that_cannot_be_are_out_of_range(read, drops: Path) -> None:
    (drops / "s.csv").write_text("img,m,s\nx,3,1\ny,3,28\nz,3,2,\nv,3,2\n")
    columns = {"image": "img", "mean": "m", "std": "s"}
    result = read(drops / "s.csv", format="csv", columns=columns, dimension="realism", scale=STARS)
    assert len(result.opinions) == 2
    assert sorted(result.quarantine["reason"]) == ["malformed_record", "out_of_range"]


ID = 1_058_263_544_937_218_101


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["1.05826E+18", "1,05826E+18", "1.2E+11", "2E+018"]), [True] * 4),
        (pa.array(["1.0582635449372181e+18", "1e+16", "1.058263544937218E18", None]), [1, 1, 1, 0]),
        (pa.array([str(ID), "1e+05", "5E12", "12e45", "anna", "E+18"]), [False] * 6),
        (pa.array(["1.05826E+18", None, "a"]).dictionary_encode(), [True, False, False]),
        (pa.array([ID, ID + 1, None]), [False] * 3),
        (pa.array([float(ID), 2.0**53 - 1, math.nan, None]), [True, False, False, False]),
        (pa.array([2**24, 2**24 - 1], pa.float32()), [True, False]),
    ],
)
def test_rounded_identifiers(column: pa.Array, expected: list[bool]) -> None:
    assert are_rounded(column).tolist() == expected


def test_rounded_identifiers_are_quarantined(read, drops: Path) -> None:
    lines = ["p,i,a,s", "q,1.png,1.05826E+18,4", "q,1.png,7,3", "q,1.05826E+18,8,2"]
    (drops / "x.csv").write_text("\n".join(lines))
    columns = {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"}
    study = {"columns": columns, "dimension": "alignment", "scale": STARS}
    result = read(drops / "x.csv", format="csv", **study)
    assert result.ratings["annotator_id"].tolist() == ["7"]
    assert result.quarantine["reason"].tolist() == ["rounded_identifier"] * 2
    assert result.quarantine["row_ref"].tolist() == [f"{drops}/x.csv#row {n}" for n in (2, 4)]
    raters = [[float(ID), 12.0], [7.0]]
    table = pa.table({"p": ["q", "q"], "i": ["1.png", "2.png"], "a": raters, "s": [[4, 3], [5]]})
    pq.write_table(table, drops / "x.parquet")
    study["columns"] = {"prompt": "p", "image": "i", "annotator_ids": "a", "scores": "s"}
    result = read(drops / "x.parquet", format="parquet", **study)
    assert result.ratings["annotator_id"].tolist() == ["12", "7"]
    assert result.quarantine["reason"].tolist() == ["rounded_identifier"]


def test_rounded_keys_of_a_prompt_file_are_an_error(read, drops: Path) -> None:
    (drops / "x.csv").write_text("k,i,s\n5,1.png,4\n")
    (drops / "prompts.csv").write_text("id,text\n1,a\n1.05826E+18,b\n")
    prompts = {"path": "prompts.csv", "key": "id", "prompt": "text", "column": "k"}
    study = {"columns": {"image": "i", "score": "s"}, "dimension": "alignment", "scale": STARS}
    with pytest.raises(UserError, match=r"prompts\.csv#row 3: the key 'id' was stored as a number"):
        read(drops / "x.csv", format="csv", prompts=prompts, **study)
