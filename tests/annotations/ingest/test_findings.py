"""Messages name unreadable cells and wrong scales; rows of totals are not ratings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.ingest.remedies import remedy_of
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError
from zreward_core.rubric import Rubric
from zreward_core.stages.ingest import check

SCALE = {"min": 1, "max": 5, "higher_is_better": True}
RATING = {"image": "i", "annotator_id": "r", "score": "s"}
Reader = Callable[..., Read]


def table(drops: Path, text: str) -> Path:
    path = drops / "a.csv"
    path.write_text(text, encoding="utf-8")
    return path


def settings(**given: Any) -> dict[str, Any]:
    return {"format": "csv", "columns": RATING, "dimension": "alignment", "scale": SCALE, **given}


@pytest.mark.parametrize("cell", ["4/5", "★★★★", "good"])
def test_an_unreadable_cell_is_named(read: Reader, drops: Path, cell: str) -> None:
    found = read(table(drops, f"i,r,s\n1.png,u,4\n2.png,u,{cell}\n3.png,v,{cell}\n"), **settings())
    (message,) = found.summary.findings.unread_cells()
    assert message.startswith(
        f"2 cells of the column 's' cannot be read as a score, such as '{cell}' "
        "(data/drops/a.csv#row 3): "
    )
    assert "`words`" in message
    assert "pattern" in message


def test_a_refused_source_names_its_cells(
    read: Reader, drops: Path, default_rubric: Rubric
) -> None:
    path = table(drops, "i,r,s\n1.png,u,4/5\n2.png,u,3/5\n")
    found = read(path, **settings())
    source = Source(name="study", path=path, **settings())
    with pytest.raises(UserError, match=r"'4/5' \(data/drops/a\.csv#row 2\), '3/5' \(data/"):
        check(source, found.summary, 0.5, default_rubric)


def test_totals_hide_no_other_remedy(read: Reader, drops: Path, default_rubric: Rubric) -> None:
    path = table(drops, "i,r,s\n1.png,u,4/5\nMean,,4\nSum,,4\nStd,,4\n2.png,u,70\n")
    found = read(path, **settings())
    assert found.summary.quarantine == {"total": 3, "malformed_record": 1, "out_of_range": 1}
    told = remedy_of(Source(name="study", path=path, **settings()), found.summary, default_rubric)
    assert "'4/5' (data/drops/a.csv#row 2)" in told
    assert "range from 70 to 70" in told
    assert "totals" not in told


def test_a_word_missing_in_the_map_of_a_vote_is_named(read: Reader, drops: Path) -> None:
    columns = {"image_a": "a", "image_b": "b", "vote": {"column": "v", "map": {"left": "a"}}}
    path = table(drops, "a,b,v\n1.png,2.png,left\n1.png,3.png,Neither\n")
    found = read(path, format="csv", columns=columns, dimension="alignment")
    (message,) = found.summary.findings.unread_cells()
    assert "'v' cannot be read as a vote, such as 'Neither' (data/drops/a.csv#row 3)" in message
    assert "`vote.map`" in message


def test_a_value_missing_in_the_map_of_dimensions_is_named(read: Reader, drops: Path) -> None:
    dimension = {"column": "d", "map": {"fit": "alignment", "note": None}}
    path = table(drops, "i,r,d,s\n1.png,u,fit,4\n1.png,u,look,4\n1.png,u,note,nice\n")
    found = read(path, **settings(dimension=dimension))
    (message,) = found.summary.findings.unread_cells()
    assert "'d' cannot be read as a dimension, such as 'look' (data/drops/a.csv#row 3)" in message


@pytest.mark.parametrize(
    ("columns", "header", "cells"),
    [
        ({"image": "i", "scores": "s"}, "i,s", ["4|x"]),
        ({"image": "i", "mean": "s", "std": "d"}, "i,s,d", ["m,1", "3,x"]),
        ({"image": "i", "histogram": ["s", "d"]}, "i,s,d", ["1,few"]),
        ({"image": "i", "wide": [{"column": "s"}, {"column": "d"}]}, "i,s,d", ["3,x"]),
    ],
)
def test_cells_of_all_kinds_of_judgements_are_named(
    read: Reader, drops: Path, columns: dict, header: str, cells: list[str]
) -> None:
    rows = "".join(f"{number}.png,{one}\n" for number, one in enumerate(cells))
    found = read(table(drops, f"{header}\n{rows}"), **settings(columns=columns))
    assert len(found.summary.findings.unread_cells()) == len(cells)


def test_a_scale_that_looks_wrong_is_named(
    read: Reader, drops: Path, default_rubric: Rubric
) -> None:
    rows = "".join(f"{number}.png,u,{number}\n" for number in range(101))
    found = read(table(drops, f"i,r,s\n{rows}"), **settings())
    assert len(found.ratings) == 5
    (message,) = found.summary.findings.wrong_scales()
    assert message.startswith(
        "96 of 101 scores of the column 's' are outside the declared scale from 1 to 5; they range "
        "from 0 to 100: the declared scale looks wrong"
    )
    source = Source(name="study", path="data/drops/a.csv", **settings())
    assert "they range from 0 to 100" in remedy_of(source, found.summary, default_rubric)


@pytest.mark.parametrize("outside", [0, 10])
def test_few_scores_outside_are_not_a_wrong_scale(read: Reader, drops: Path, outside: int) -> None:
    values = [3] * (100 - outside) + [41] * outside
    rows = "".join(f"{number}.png,u,{value}\n" for number, value in enumerate(values))
    found = read(table(drops, f"i,r,s\n{rows}"), **settings())
    assert found.summary.findings.wrong_scales() == []
    assert found.summary.quarantine["out_of_range"] == outside


@pytest.mark.parametrize(
    ("columns", "text", "number"),
    [
        (RATING, "i,r,s\n1.png,u,4\nMean,,3\nTotal:,,7\n", 2),
        (RATING, "i,r,s\n1.png,u,4\n,AVERAGE,3.5\n", 1),
        (
            {"image": "i", "wide": [{"column": "u"}, {"column": "v"}]},
            "i,u,v\n1.png,4,3\nSum,8,\n",
            1,
        ),
        ({"image": "i", "mean": "m"}, "i,m\n1.png,4\naverage,4\n", 1),
        ({"prompt": "p", "image": "i", "score": "s"}, "p,i,s\na,1.png,4\nStd. dev,,1.2\n", 1),
    ],
)
def test_rows_of_totals_are_quarantined(
    read: Reader, drops: Path, columns: dict, text: str, number: int
) -> None:
    found = read(table(drops, text), **settings(columns=columns))
    assert found.quarantine["reason"].tolist() == ["total"] * number
    assert set(found.ratings["row_ref"].str[:22]) <= {"data/drops/a.csv#row 2"}
    assert found.summary.missing_images["first"] == ["1.png"]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (RATING, "i,r,s\n1.png,Mean,4\n"),
        ({"prompt": "p", "score": "s"}, "p,s\nTotal,4\n"),
        ({"prompt": "p", "image": "i", "score": "s"}, "p,i,s\nsum,1.png,4\n"),
        (RATING, "i,r,s\nTotal.png,,4\n"),
    ],
)
def test_names_that_are_like_totals_count(
    read: Reader, drops: Path, columns: dict, text: str
) -> None:
    found = read(table(drops, text), **settings(columns=columns))
    assert len(found.ratings) == 1


def test_a_second_table_with_another_order_is_refused(read: Reader, drops: Path) -> None:
    """By the order of the first table, annotators would be images."""
    first, second = "i,r,s\n1.png,u,4\n", "r,i,s\nv,2.png,3\n"
    with pytest.raises(UserError, match=r"a\.csv, row 3: a second header"):
        read(table(drops, first + second), **settings())
    book = openpyxl.Workbook()
    for line in (first + second).splitlines():
        book.active.append(line.split(","))
    book.save(drops / "b.xlsx")
    with pytest.raises(UserError, match=r"b\.xlsx, row 3: a second header"):
        read(drops / "b.xlsx", **settings(format="excel"))
    again = read(table(drops, first + first + "s,u,4\n"), **settings())
    assert again.summary.quarantine == {"malformed_record": 1}
    assert len(again.ratings) == 3


def test_times_that_cannot_be_read_are_named(read: Reader, drops: Path) -> None:
    columns = {**RATING, "seconds": "t"}
    rows = "i,r,s,t\n1.png,u,4,3 min\n2.png,u,4,x\n3.png,u,bad,y\n4.png,u,4,12\n5.png,u,4,\n"
    found = read(table(drops, rows), **settings(columns=columns))
    assert found.ratings["seconds"].fillna(-1).tolist() == [-1, -1, 12, -1]
    messages = found.summary.findings.unread_cells(("number of seconds",))
    assert messages == [
        "2 cells of the column 't' cannot be read as a number of seconds, such as '3 min' "
        "(data/drops/a.csv#row 2), 'x' (data/drops/a.csv#row 3): the ratings count without a "
        "time; extract the seconds by `pattern`"
    ]
