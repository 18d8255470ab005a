"""Excel workbooks as people make them: merged cells."""

import logging
import re
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.chart import BarChart, Reference

from tests.annotations.sources import REPOSITORY
from zreward_core.config import UserError
from zreward_core.stages import ingest

HEADER = ["p", "i", "a", "s"]
STUDY: dict[str, Any] = {
    "format": "excel",
    "columns": {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}
RATERS = [
    ["q1", "1.png", "x", 4],
    [None, None, "y", 3],
    [None, None, "z", 5],
    ["q2", "2.png", "x", 2],
    [None, None, "y", 1],
]


def write(drops: Path, rows: list[list[Any]], *merged: str) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cells in merged:
        book.active.merge_cells(cells)
    book.save(drops / "x.xlsx")
    return drops / "x.xlsx"


def test_merged_prompts_and_images_count_for_each_row(read, drops: Path) -> None:
    path = write(drops, [HEADER, *RATERS], "B5:B6", "A5:A6", "A2:A4", "B2:B4")
    ratings = read(path, **STUDY).ratings
    assert ratings["prompt"].tolist() == ["q1"] * 3 + ["q2"] * 2
    assert ratings.groupby("item_id")["native_score"].apply(list).tolist() in (
        [[4.0, 3.0, 5.0], [2.0, 1.0]],
        [[2.0, 1.0], [4.0, 3.0, 5.0]],
    )


def test_merged_cells_are_logged_once(drops: Path, caplog) -> None:
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    write(drops, [HEADER, *RATERS], "A2:A4", "B2:B4", "A5:A6", "B5:B6")
    source = {"name": "s", "path": drops / "x.xlsx", **STUDY}
    with caplog.at_level(logging.WARNING):
        ingest.run(ingest.Config(seed=0, sources=[source]))
    notes = [one for one in caplog.messages if "merged" in one]
    assert notes == [
        f"{drops}/x.xlsx (source 's'): 4 merged ranges of the columns p, i (such as A2:A4): their "
        "value counts for each of their rows"
    ]


def test_rows_of_a_merged_range_without_values_stay_empty(read, drops: Path) -> None:
    rows = [HEADER, ["q1", "1.png", "x", 4], [], ["q2", "2.png", "x", 2]]
    result = read(write(drops, rows, "A2:A3", "B2:B3", "C2:C3", "D2:D3"), **STUDY)
    assert result.ratings["prompt"].tolist() == ["q1", "q2"]
    assert result.summary.ignored == {"empty_line": 1} and result.quarantine.empty


def test_titles_and_merged_header_cells(read, drops: Path) -> None:
    rows = [
        ["A study"],
        ["p", "i", "Answers", None],
        [None, None, "a", "s"],
        ["q1", "1.png", "x", 4],
        ["Block 2"],
        ["q2", "2.png", "x", 2],
    ]
    path = write(drops, rows, "A1:D1", "A2:A3", "B2:B3", "C2:D2", "A5:D5")
    result = read(path, header_row=3, **STUDY)
    assert result.ratings["prompt"].tolist() == ["q1", "q2"]
    assert result.quarantine["row_ref"].tolist() == [f"{path}#row 5"]


@pytest.mark.parametrize(
    ("merged", "message"),
    [
        ("D2:D4", "x.xlsx: the cells D2:D4 of the column 's' are merged, so it is unclear"),
        ("A2:B2", "the merged cells A2:B2 reach over several columns, among them p, i"),
        ("A2:B4", "the merged cells A2:B4 reach over several columns, among them p, i"),
    ],
)
def test_merged_cells_that_are_unclear(read, drops: Path, merged: str, message: str) -> None:
    rows = [["q", f"{n}.png", "x", 4] for n in range(3)]
    with pytest.raises(UserError, match=message):
        read(write(drops, [HEADER, *rows], merged), **STUDY)


@pytest.mark.parametrize("part", ["sheet1.xml", "workbook.xml", "styles.xml", "Types].xml"])
def test_a_damaged_workbook_is_an_error(read, drops: Path, part: str) -> None:
    path = write(drops, [HEADER, *RATERS])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content[:-20] if name.endswith(part) else content)
    with pytest.raises(UserError, match=r"x\.xlsx: .*save it again as \.xlsx"):
        read(path, **STUDY)


@pytest.mark.parametrize("drawn", [False, True])
def test_chart_sheets_are_not_read(read, drops: Path, drawn: bool) -> None:
    book = openpyxl.Workbook()
    for row in [HEADER, *RATERS]:
        book.active.append(row)
    chart_sheet = book.create_chartsheet("Chart", 0)
    if drawn:
        chart = BarChart()
        chart.add_data(Reference(book.worksheets[0], min_col=4, min_row=1, max_row=6))
        chart_sheet.add_chart(chart)
    book.save(drops / "x.xlsx")
    for sheet in (None, 1, "Sheet"):
        assert len(read(drops / "x.xlsx", sheet=sheet, **STUDY).ratings) == 5
    with pytest.raises(UserError, match=r"no sheet 'Chart' \(it has Sheet"):
        read(drops / "x.xlsx", sheet="Chart", **STUDY)


def test_long_numbers_are_not_identifiers(read, drops: Path) -> None:
    number = 1_058_263_544_937_218_101
    raters = [number, number + 1, float(number), str(number), 12.0]
    path = write(drops, [HEADER, *(["q", "1.png", one, 4] for one in raters)])
    result = read(path, **STUDY)
    assert result.ratings["annotator_id"].tolist() == [str(number), "12"]
    assert result.quarantine["reason"].tolist() == ["rounded_identifier"] * 3


def test_formulas_without_stored_values_are_an_error(read, drops: Path) -> None:
    rows = [HEADER, ["q", "1.png", "x", 4], ["q", "2.png", "x", "=2+2"], ["=A2", "3.png", "x", 3]]
    with pytest.raises(UserError) as error:
        read(write(drops, rows), **STUDY)
    assert str(error.value) == (
        f"{drops}/x.xlsx: 2 formulas in the columns p, s have no stored value (the first is in "
        "A4); open the file in Excel and save it"
    )
    other = [[*HEADER, "n"], ["q", "1.png", "x", 4, "=D2"]]
    assert len(read(write(drops, other), **STUDY).ratings) == 1


@pytest.mark.parametrize("cell", ["<v>4</v>", "\n <v>\n4</v>\n"])
def test_formulas_count_by_their_stored_values(read, drops: Path, cell: str) -> None:
    path = write(drops, [HEADER, ["q", "1.png", "x", "=2+2"], ['=""', "2.png", "x", 3]])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name).decode() for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            if name.endswith("sheet1.xml"):
                content, number = re.subn(
                    r'r="D2"><f>2\+2</f><v */>', rf'r="D2"><f>2+2</f>{cell}', content
                )
                assert number == 1, content
                content = content.replace('r="A3"', 'r="A3" t="str"')
            book.writestr(name, content)
    ratings = read(path, **STUDY).ratings
    assert ratings["native_score"].tolist() == [4.0, 3.0]
    assert ratings["prompt"].isna().tolist() == [False, True]


def sheets(drops: Path, **rows: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, listed in rows.items():
        sheet = book.create_sheet(title)
        for row in listed:
            sheet.append(row)
    book.save(drops / "x.xlsx")
    return drops / "x.xlsx"


def test_other_sheets_with_the_columns_are_named(read, drops: Path) -> None:
    row = ["q", "1.png", "anna", 4]
    path = sheets(drops, anna=[HEADER, row], ben=[["s", "i", "a", "p"], row], notes=[["hello"]])
    (note,) = read(path, **STUDY).summary.notes
    assert note.endswith(
        "only the sheet anna is read; ben has the same columns: add a source with `sheet` for "
        "each, or choose one by `sheet`"
    )
    assert not read(path, **STUDY, sheet="anna").summary.notes


def test_the_first_sheet_is_one_that_is_shown(read, drops: Path) -> None:
    path = sheets(drops, old=[HEADER, ["q", "1.png", "x", 1]], new=[HEADER, ["q", "1.png", "x", 5]])
    book = openpyxl.load_workbook(path)
    book["old"].sheet_state = "hidden"
    book.save(path)
    assert read(path, **STUDY).ratings["native_score"].tolist() == [5.0]
    assert read(path, **STUDY, sheet=1).ratings["native_score"].tolist() == [1.0]


def test_hidden_rows_and_percentages_are_named(read, drops: Path) -> None:
    path = write(drops, [HEADER, ["q", "1.png", "x", 0.8], ["q", "2.png", "y", 1], [], [1]])
    book = openpyxl.load_workbook(path)
    for row in (1, 3, 4):
        book.active.row_dimensions[row].hidden = True
    book.active["D2"].number_format = "0%"
    book.active["D3"].number_format = "0.0 %"
    book.active["C2"].number_format = "0.0"
    book.save(path)
    study = STUDY | {"scale": {"min": 0, "max": 1, "higher_is_better": True}}
    result = read(path, **study)
    assert result.ratings["native_score"].tolist() == [0.8, 1.0]
    hidden, percentages = result.summary.notes
    assert "1 hidden rows (such as row 3) are read like the others" in hidden
    assert "2 cells of the column s (such as D2) are percentages" in percentages


def test_durations_are_not_scores(read, drops: Path) -> None:
    hours = timedelta(hours=4)
    path = write(drops, [HEADER, ["q", "1.png", "x", hours], ["q", "2.png", "y", 3]])
    result = read(path, **STUDY)
    assert result.ratings["native_score"].tolist() == [3.0]
    assert result.quarantine["reason"].tolist() == ["malformed_record"]
