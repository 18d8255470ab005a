"""Rows of text tables are numbered as in a spreadsheet, and batches follow the file."""

from pathlib import Path

import pytest

from zreward_core.annotations.formats import FORMATS, delimited, records
from zreward_core.annotations.formats.records import Wanted


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("quote", ["", '"'])  # a quote inside a cell: read line by line
@pytest.mark.parametrize("head", [0, 2])
def test_each_cell_has_the_number_of_its_row(
    encoding: str, quote: str, head: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 256)
    monkeypatch.setattr(records, "BATCH_ROWS", 7)
    rows, number = [*["note"] * head, "name,score"], head + 1
    good, broken = {}, set()
    for i in range(60):
        for row, kind in (
            (f"é{quote}{i},1", "good"),
            (f'"{i}\nlines",1', "good"),
            ("", "blank"),
            (f"{i},1,2", "broken"),
        )[: 1 + i % 4]:
            number += 1
            rows.append(row)
            if kind == "broken":
                broken.add(f"row {number}")
            elif kind == "good":
                good[f"row {number}"] = row.rpartition(",")[0]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows) + "\n", encoding=encoding)
    found, bad, last = {}, set(), 0
    for batch in FORMATS["csv"].read(path, Wanted(("name",), header_row=head + 1)):
        refs, named = batch.refs.to_pylist(), batch.columns["name"].to_pylist()
        found |= {ref: name for ref, name in zip(refs, named, strict=True) if name}
        here = {ref for ref, _ in batch.broken}
        bad |= here
        numbers = [int(ref.split()[1]) for ref in [*refs, *here]]
        assert min(numbers) > last and [*refs] == sorted(refs, key=lambda ref: int(ref.split()[1]))
        last = max(numbers)
    assert bad == broken
    assert {ref: name.replace('"', "") for ref, name in found.items()} == {
        ref: name.replace('"', "") for ref, name in good.items()
    }


def test_joined_rows_have_their_place_and_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    for quote in ("", '"'):
        lines = ["a,b,c"]
        for i in range(30):
            lines += [f"{i}{quote},1,2", f"{i},x", "y,2", f"{i},lonely"]
        (tmp_path / "t.csv").write_text("\n".join([*lines, "30,1,2", ""]))
        batches = list(FORMATS["csv"].read(tmp_path / "t.csv", Wanted(("a", "b"))))
        refs = [ref for batch in batches for ref in batch.refs.to_pylist()]
        texts = [text for batch in batches for text in batch.columns["b"].to_pylist()]
        assert refs == [f"row {i}" for i in range(2, 123) if i % 4 in (2, 3)]
        assert texts == ["1", "x\ny"] * 30 + ["1"]
        assert sum(batch.num_repaired for batch in batches) == 30
        assert sum(len(batch.broken) for batch in batches) == 30


@pytest.mark.parametrize("quote", ["", '"'])  # a quote inside a cell: read line by line
@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("image,prompt,x", "a.png,red", "b.png,blue"),
        ("prompt,image,x", "red,a.png", "blue,b.png"),
        ("prompt,image,x", "red,https://a/1", "blue,https://a/2"),
        ("id,prompt,score", "1,red", "2,blue"),
        ("id,prompt,score", "item_1,red", "item_2,blue"),
        ("id,prompt,score", "3f9a00c1,red", "b07d11e2,blue"),
        ("prompt,score,comment", "red,4", "blue,3.5"),
    ],
)
def test_two_rows_that_end_early_are_not_joined(
    header: str, first: str, second: str, quote: str, tmp_path: Path
) -> None:
    names = header.split(",")
    (tmp_path / "t.csv").write_text(f"{header}\n{first}\n{second}\nz{quote},y,x\n")
    (batch,) = FORMATS["csv"].read(tmp_path / "t.csv", Wanted(tuple(names)))
    assert batch.refs.to_pylist() == ["row 4"] and batch.num_repaired == 0
    assert [(ref, text.strip()) for ref, text in batch.broken] == [
        ("row 2", first),
        ("row 3", second),
    ]


@pytest.mark.parametrize("first", ["1,a red", "a.png,shot in", "item_1,see", "3Z56AA6ELI,1.sink"])
def test_a_row_that_is_split_inside_a_text_is_joined(first: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"id,prompt,score\n{first}\nball of wool,4\n")
    (batch,) = FORMATS["csv"].read(tmp_path / "t.csv", Wanted(("prompt", "score")))
    assert batch.num_repaired == 1 and not batch.broken
    assert batch.columns["prompt"].to_pylist() == [f"{first.partition(',')[2]}\nball of wool"]
