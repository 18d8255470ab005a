"""CSV and TSV: read in blocks by Arrow; rows that do not fit the header are handled in Python.

A file with invalid bytes or malformed quotes (``quoting``) is read line by line instead, so that a
malformed row affects only itself. Batches follow the file: all records and broken rows of a batch
are behind those of the batch before. Rows are numbered as in a spreadsheet: a header in the first
line is row 1.
"""

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from zreward_core.annotations.formats.delimited_rows import Table, cells_of, rejoined, rows_of
from zreward_core.annotations.formats.encodings import encoding_of, guess_note
from zreward_core.annotations.formats.quoting import is_sound
from zreward_core.annotations.formats.records import (
    BLANK,
    MissingColumn,
    Records,
    Wanted,
    batches_of,
    header_columns,
    inside,
    refs_of,
)
from zreward_core.config import UserError

BLOCK_BYTES = 2**25
MAX_FAULTS = 3
"""Kinds of rows that do not fit the header, which are named."""
DELIMITERS = (",", ";", "\t", "|")
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .xls files."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""First line with which Excel declares the delimiter."""


def read_csv(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a text table with a header; its delimiter is detected if it is not a comma."""
    return _read(path, wanted, ",")


def read_tsv(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a text table with a header; its delimiter is detected if it is not a tab."""
    return _read(path, wanted, "\t")


def _read(path: Path, wanted: Wanted, usual: str) -> Iterator[Records]:
    encoding = encoding_of(path, wanted)
    try:
        table = _open(path, wanted, usual, encoding.name)
    except MissingColumn as error:
        if encoding.guessed:
            problem = f"{error.problem}. It is {guess_note(encoding.name)}"
            raise MissingColumn(problem, error.header) from None
        raise
    if not _has_rows(table):
        return
    sound = not encoding.damaged and is_sound(
        path, table.encoding, table.delimiter, len(table.header)
    )
    for records in (_read_blocks if sound else _read_lines)(table, wanted):
        columns = {
            name: inside(records.columns[top], name[len(top) + 1 :])
            for name, top in table.tops.items()
        }
        wanted.problems[:] = [
            f"rows that cannot be read, such as row {row}: {fault}"
            for fault, row in itertools.islice(table.faults.items(), MAX_FAULTS)
        ]
        yield replace(records, columns=columns)


def _open(path: Path, wanted: Wanted, usual: str, encoding: str) -> Table:
    """Find the delimiter and the header.

    Raises:
        UserError: a column is missing or occurs twice, or the file is a workbook.
    """
    with path.open("rb") as file:
        if file.read(4) in WORKBOOKS:
            raise UserError(f"{path}: an Excel workbook; its format is `excel`")
    row, delimiters = wanted.header_row, [usual, *(one for one in DELIMITERS if one != usual)]
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        announced = _SEPARATOR_LINE.fullmatch(file.readline())
    if announced:
        row, delimiters = row + 1, [announced.group(1)]
    if wanted.delimiter is not None:
        delimiters = [wanted.delimiter]
    headers = {one: read_header(path, encoding, one, row) for one in delimiters}
    fitting = [one for one in delimiters if _fits(headers[one], wanted, path)]
    widest = max(delimiters, key=lambda one: len(headers[one]))
    delimiter = (fitting or [widest])[0]
    header = headers[delimiter]
    tops = header_columns(header, wanted, path) if header else {}
    return Table(path, encoding, delimiter, row, header, tops)


def _fits(header: list[str], wanted: Wanted, path: Path) -> bool:
    """Whether a header has all columns; a column that occurs twice counts as found."""
    try:
        header_columns(list(dict.fromkeys(header)), wanted, path)
    except UserError:
        return False
    return True


def read_header(path: Path, encoding: str, delimiter: str, row: int = 1) -> list[str]:
    """Names of the columns, in the given line; none if the file ends before."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        lines = itertools.islice(file, row - 1, None)
        names = next(csv.reader(lines, delimiter=delimiter), [])
    return [name.strip(BLANK) for name in names]


def _has_rows(table: Table) -> bool:
    """Whether anything follows the header."""
    with table.path.open(encoding=table.encoding, errors="replace", newline="") as file:
        lines = itertools.islice(file, table.header_row - 1, None)
        next(csv.reader(lines, delimiter=table.delimiter), None)
        return next(lines, None) is not None


def _read_blocks(table: Table, wanted: Wanted) -> Iterator[Records]:
    invalid: list[tuple[int, str]] = []

    def set_aside(row: pyarrow.csv.InvalidRow) -> str:
        invalid.append((row.number, row.text))
        return "skip"

    stream = pa.OSFile(str(table.path))
    if table.encoding not in ("utf-8", "utf-8-sig"):
        stream = pa.transcoding_input_stream(stream, table.encoding, "utf-8")
    text = pa.dictionary(pa.int32(), pa.string())
    # Arrow requires distinct names; the names of the columns to read are distinct.
    names = [
        name if name in table.columns else f"{place} {name}"
        for place, name in enumerate(table.header)
    ]
    included = [*dict.fromkeys([*table.columns, *names])] if wanted.skip_blank else table.columns
    try:
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=names,
                skip_rows=table.header_row - 1,
                skip_rows_after_names=1,
                use_threads=False,  # with several threads Arrow does not number invalid rows
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=table.delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=set_aside,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=included,
                column_types=dict.fromkeys(included, text),
                strings_can_be_null=False,
            ),
        )
        last = table.header_row
        with reader:
            for batch in reader:
                numbers = _numbers(last, batch.num_rows, invalid)
                last = int(numbers[-1]) if len(numbers) else last
                # Arrow reads ahead: rows behind the batch belong to the next one.
                before = [row for row in invalid if row[0] < last]
                invalid[:] = [row for row in invalid if row[0] > last]
                columns = {name: batch.column(name) for name in table.columns}
                if wanted.skip_blank:
                    good = ~_blank(batch)
                    numbers = numbers[good]
                    columns = {name: one.filter(pa.array(good)) for name, one in columns.items()}
                yield _in_order(columns, numbers, before, table, wanted.skip_blank)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{table.path}: {error}; the file must be a table with one header line"
        ) from None
    if invalid:
        none = {name: pa.array([], text) for name in table.columns}
        yield _in_order(none, np.array([], dtype=np.int64), invalid, table, wanted.skip_blank)


def _numbers(last: int, number: int, invalid: list[tuple[int, str]]) -> np.ndarray:
    """Numbers of the next valid rows; those of invalid rows are skipped."""
    skipped = [row for row, _ in invalid if row > last]
    numbers = np.arange(last + 1, last + 1 + number + len(skipped), dtype=np.int64)
    return numbers[~np.isin(numbers, skipped)][:number]


def _blank(batch: pa.RecordBatch) -> np.ndarray:
    """[N] whether all cells of a row are empty."""
    blank = np.ones(batch.num_rows, dtype=bool)
    for column in batch.columns:
        if blank.any():
            empty = pc.equal(pc.utf8_trim_whitespace(column.dictionary), "")
            blank &= empty.take(column.indices).to_numpy(zero_copy_only=False)
    return blank


def _in_order(
    columns: dict[str, pa.Array],
    numbers: np.ndarray,
    invalid: list[tuple[int, str]],
    table: Table,
    skip_blank: bool,
) -> Records:
    """The N rows that Arrow has read together with those between them that it has not.

    Args:
        columns: of the rows that fit the header.
        numbers: [N] theirs.
        invalid: number and text of the others.
    """
    if not invalid:
        return Records(columns, refs_of("row", numbers))
    rows = list(rejoined(sorted(invalid), table, skip_blank, []))
    broken = [(f"row {number}", row) for number, row in rows if isinstance(row, str)]
    joined = [(number, row) for number, row in rows if isinstance(row, dict)]
    if joined:
        numbers = np.concatenate([numbers, [number for number, _ in joined]])
        order = pa.array(np.argsort(numbers, kind="stable"))
        numbers = np.sort(numbers)
        for name, column in columns.items():
            added = pa.array([row[name] for _, row in joined], column.type)
            both = pa.chunked_array([column, added]).unify_dictionaries().combine_chunks()
            columns[name] = both.take(order)
    return Records(columns, refs_of("row", numbers), broken, num_repaired=len(joined))


def _read_lines(table: Table, wanted: Wanted) -> Iterator[Records]:
    """Read a damaged file line by line: a fault affects its own row only."""
    width = len(table.header)
    joined: list[int] = []

    def rows() -> Iterator[tuple[int, dict | str]]:
        with table.path.open(encoding=table.encoding, errors="replace", newline="") as file:
            lines = itertools.islice(file, table.header_row - 1, None)
            texts = rows_of(lines, table.delimiter, width)
            for number, text in enumerate(texts, start=table.header_row):
                cells = cells_of(text, table.delimiter)
                if number == table.header_row:
                    continue
                if wanted.skip_blank and not any(cell.strip() for cell in cells):
                    continue
                if "\ufffd" not in text and len(cells) == width:
                    yield number, dict(zip(table.header, cells, strict=True))
                else:
                    yield number, text if cells else {}

    in_order = rejoined(rows(), table, wanted.skip_blank, joined)
    for records in batches_of(in_order, Wanted(tuple(table.columns)), "row"):
        records.num_repaired = len(joined)
        joined.clear()
        yield records
