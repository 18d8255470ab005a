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
