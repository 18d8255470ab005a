"""CSV and TSV: read in blocks by Arrow; rows that do not fit the header are handled in Python.

A file with damaged text or with a quote that is never closed is read line by line instead, so that
one bad row costs one row. Rows are numbered as in a spreadsheet: the header is row 1.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from zreward_core.annotations.formats.encodings import Encoding, detect_encoding
from zreward_core.annotations.formats.records import (
    RAW_LENGTH,
    Records,
    Wanted,
    batches_of,
    refs_of,
)
from zreward_core.config import UserError

BLOCK_BYTES = 2**25
MAX_CELL_LINES = 200
"""A quoted cell of more lines counts as an unclosed quote."""

csv.field_size_limit(2**27)


def read_csv(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a comma separated file with a header."""
    return _read(path, wanted, ",")


def read_tsv(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a tab separated file with a header."""
    return _read(path, wanted, "\t")


def _read(path: Path, wanted: Wanted, delimiter: str) -> Iterator[Records]:
    encoding = detect_encoding(path, wanted.encoding)
    header = read_header(path, encoding.name, delimiter)
    missing = [name for name in wanted.names if name not in header]
    if missing and header:
        raise UserError(
            f"{path}: no column {', '.join(missing)} in its header ({', '.join(header)}); correct "
            "`columns` (and `dimension`) of the source in params.yaml"
        )
    if encoding.damaged or not encoding.quotes_match:
        return _read_lines(path, wanted, delimiter, encoding.name, header)
    return _read_blocks(path, wanted, delimiter, encoding, header) if header else iter(())


def read_header(path: Path, encoding: str, delimiter: str) -> list[str]:
    """Names of the columns; none in an empty file."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        return [name.strip() for name in next(csv.reader(file, delimiter=delimiter), [])]


def _read_blocks(
    path: Path, wanted: Wanted, delimiter: str, encoding: Encoding, header: list[str]
) -> Iterator[Records]:
    invalid: list[tuple[int, str]] = []

    def set_aside(row: pyarrow.csv.InvalidRow) -> str:
        invalid.append((row.number, row.text))
        return "skip"

    stream = pa.OSFile(str(path))
    if encoding.name not in ("utf-8", "utf-8-sig"):
        stream = pa.transcoding_input_stream(stream, encoding.name, "utf-8")
    text = pa.dictionary(pa.int32(), pa.string())
    try:
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=header,
                skip_rows_after_names=1,
                use_threads=False,  # with several threads Arrow does not number invalid rows
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=set_aside,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(wanted.names),
                column_types=dict.fromkeys(wanted.names, text),
                strings_can_be_null=False,
            ),
        )
        last = 1
        with reader:
            for batch in reader:
                numbers = _numbers(last, batch.num_rows, invalid)
                last = int(numbers[-1]) if len(numbers) else last
                columns = {name: batch.column(name) for name in wanted.names}
                yield Records(columns, refs_of("row", numbers))
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: {error}; the file must be a table with one header line") from None
    yield from _rejoin(invalid, wanted, delimiter, header)


def _numbers(last: int, number: int, invalid: list[tuple[int, str]]) -> np.ndarray:
    """Numbers of the next valid rows; those of invalid rows are skipped."""
    skipped = np.array(sorted(row for row, _ in invalid if row > last), dtype=np.int64)
    numbers = np.arange(last + 1, last + 1 + number, dtype=np.int64)
    for row in skipped:
        if not len(numbers) or row > numbers[-1]:
            break
        numbers[numbers >= row] += 1
    return numbers


def _rejoin(
    invalid: list[tuple[int, str]], wanted: Wanted, delimiter: str, header: list[str]
) -> Iterator[Records]:
    """Join rows that were split by a line break inside an unquoted cell.

    Two neighbouring rows are joined if their cells, with the two at the break merged, are as many
    as the header's. All others are broken.
    """
    rejoined: list[tuple[int, dict]] = []
    broken: list[tuple[int, str]] = []
    waiting = sorted(invalid)
    while waiting:
        number, text = waiting.pop(0)
        cells = _cells(text, delimiter)
        if waiting and waiting[0][0] == number + 1:
            rest = _cells(waiting[0][1], delimiter)
            if len(cells) + len(rest) - 1 == len(header) and len(rest) > 1 and len(cells) > 1:
                joined = [*cells[:-1], f"{cells[-1]}\n{rest[0]}", *rest[1:]]
                rejoined.append((number, dict(zip(header, joined, strict=True))))
                waiting.pop(0)
                continue
        broken.append((number, text[:RAW_LENGTH]))
    for records in batches_of([*rejoined, *broken], wanted, "row"):
        records.num_repaired = len(records)
        yield records


def _cells(text: str, delimiter: str) -> list[str]:
    return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter), [])


def _read_lines(
    path: Path, wanted: Wanted, delimiter: str, encoding: str, header: list[str]
) -> Iterator[Records]:
    """Read a damaged file line by line: a fault affects its own row only."""
    invalid: list[tuple[int, str]] = []

    def rows() -> Iterator[tuple[int, dict | str]]:
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            for number, text in enumerate(_rows_of(iter(file), delimiter, len(header)), start=1):
                cells = _cells_of_row(text, delimiter)
                if number == 1:
                    continue
                if "\ufffd" in text:
                    yield number, text[:RAW_LENGTH]
                elif len(cells) == len(header):
                    yield number, dict(zip(header, cells, strict=True))
                elif not cells:
                    yield number, {}
                else:
                    invalid.append((number, text))

    yield from batches_of(rows(), wanted, "row")
    yield from _rejoin(invalid, wanted, delimiter, header)


def _rows_of(lines: Iterator[str], delimiter: str, width: int) -> Iterator[str]:
    """Rows of one line, or of several if a quoted cell spans them; an unclosed quote is ignored."""
    ahead: list[str] = []
    while True:
        line = ahead.pop(0) if ahead else next(lines, None)
        if line is None:
            return
        row, used = line, 0
        while row.count('"') % 2 and used < MAX_CELL_LINES:
            if used == len(ahead):
                following = next(lines, None)
                if following is None:
                    break
                ahead.append(following)
            row += ahead[used]
            used += 1
        if used and row.count('"') % 2 == 0 and len(_cells_of_row(row, delimiter)) == width:
            del ahead[:used]
            yield row
        else:
            yield line


def _cells_of_row(text: str, delimiter: str) -> list[str]:
    stripped = text.rstrip("\r\n")
    return next(csv.reader(stripped.splitlines(keepends=True), delimiter=delimiter), [])
