"""Tables of images and prompts: CSV, TSV, Excel, JSON, JSON Lines and Parquet."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.formats.encodings import detect_encoding
from zreward_core.annotations.formats.json_records import load_json, parse_line
from zreward_core.annotations.formats.records import MissingColumn, Wanted, pick
from zreward_core.commands.scoring.rows import Columns, Images, Row, Source, choose_column
from zreward_core.config import UserError, writable

IMAGE_COLUMNS = ("image", "file_name", "image_path", "path", "image_id")
PROMPT_COLUMNS = ("prompt", "caption", "text")
BATCH_ROWS = 64
"""Rows of a Parquet file in memory at a time."""
FIRST_RECORDS = 100
"""Records of a JSON file in which the usual names of columns are looked for."""
Asked = Sequence[Sequence[str]]
"""Names of an image column, and of a prompt column, in the order in which they are tried."""
Record = tuple[str, Mapping[str, Any] | None]
"""Place in the file, such as "row 3", and content; None for a row that cannot be read."""


class TextTable(Source):
    """A table that is read from its beginning."""

    def __init__(self, path: Path, columns: Columns, images: Images) -> None:
        """Find the columns and count the rows.

        Raises:
            UserError: the file cannot be read, has no rows, or lacks a column.
        """
        self.files = [path]
        self._path, self._images, self._text = path, images, columns.text
        self._read, present = READERS[path.suffix.lower()]
        asked: list[Sequence[str]] = [IMAGE_COLUMNS if columns.image is None else [columns.image]]
        if columns.text is None:
            asked.append(PROMPT_COLUMNS if columns.prompt is None else [columns.prompt])
        names = present(path, asked)
        self.count = 0
        if not names and next(self._read(path, ()), None) is None:
            return  # an empty file
        self._image = choose_column(columns.image, IMAGE_COLUMNS, names, "--image-column", path)
        self._prompt = None
        if columns.text is None:
            self._prompt = choose_column(
                columns.prompt, PROMPT_COLUMNS, names, "--prompt-column", path
            )
        self.count = sum(1 for _ in self._records())

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from a position on; those before are read and skipped."""
        for place, record in islice(self._records(), start, None):
            place = writable(f"{self._path} {place}")
            if record is None:
                yield Row(place, error="it is not a row with a cell for each column")
                continue
            prompt = self._text if self._prompt is None else pick(record, self._prompt)
            yield self._images.row(place, pick(record, self._image), prompt)

    def _records(self) -> Iterator[Record]:
        wanted = [self._image] if self._prompt is None else [self._image, self._prompt]
        return self._read(self._path, wanted)


def _table(name: str) -> Callable[[Path, Sequence[str]], Iterator[Record]]:
    def read(path: Path, names: Sequence[str]) -> Iterator[Record]:
        for records in FORMATS[name].read(path, Wanted(tuple(names), skip_blank=True)):
            cells = [records.columns[one].to_pylist() for one in names]
            good = (
                (ref, dict(zip(names, values, strict=True)))
                for ref, *values in zip(records.refs.to_pylist(), *cells, strict=True)
            )
            broken = ((ref, None) for ref, _ in records.broken)
            # batches follow the file, but a batch has its broken rows apart
            yield from heapq.merge(good, broken, key=lambda record: int(record[0].split()[1]))

    return read


def _header(name: str) -> Callable[[Path, Asked], list[str]]:
    def present(path: Path, asked: Asked) -> list[str]:
        """The first column of each group that a table has, then, if it lacks one, all others."""
        found, header = [], []
        for names in asked:
            for column in names:
                try:
                    next(iter(FORMATS[name].read(path, Wanted((column,)))), None)
                except MissingColumn as error:
                    header = error.header
                else:
                    found.append(column)
                    break
        return [*found, *(one for one in header if one not in found)]

    return present


def _lines(path: Path, names: Sequence[str]) -> Iterator[Record]:
    encoding = detect_encoding(path).name
    with path.open(encoding=encoding, errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = parse_line(line)
                yield f"line {number}", record if isinstance(record, dict) else None


def _json(path: Path, names: Sequence[str]) -> Iterator[Record]:
    content = load_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: not a list of records; write one, or JSON Lines")
    for number, record in enumerate(content, start=1):
        yield f"record {number}", record if isinstance(record, dict) else None


def _keys(
    read: Callable[[Path, Sequence[str]], Iterator[Record]],
) -> Callable[[Path, Asked], list[str]]:
    def present(path: Path, asked: Asked) -> list[str]:
        """The keys of the first records, and of more if those lack a column."""
        found: dict[str, None] = {}
        for number, (_, record) in enumerate(read(path, ())):
            if number >= FIRST_RECORDS and all(
                any(name in found or name.partition(".")[0] in found for name in names)
                for names in asked
            ):
                break
            found |= dict.fromkeys(record or ())
        return list(found)

    return present


READERS = {
    ".csv": (_table("csv"), _header("csv")),
    ".tsv": (_table("tsv"), _header("tsv")),
    ".xlsx": (_table("excel"), _header("excel")),
    ".json": (_json, _keys(_json)),
    ".jsonl": (_lines, _keys(_lines)),
    ".ndjson": (_lines, _keys(_lines)),
}
"""Suffix to the reader of records, and of the names of columns."""


class ParquetTable(Source):
    """One or several Parquet files, with paths or bytes of images."""

    def __init__(self, files: Sequence[Path], columns: Columns, images: Images) -> None:
        """Read the schemas.

        Raises:
            UserError: a file cannot be read, or lacks a column.
        """
        self.files = files
        self._images, self._text = images, columns.text
        self._groups: list[tuple[Path, int, int, int]] = []
        """File, row group, its first row over all files, and in its file."""
        self._names: dict[Path, tuple[str, str | None]] = {}
        self.count = 0
        for path in files:
            self._add(path, columns)

    def _add(self, path: Path, columns: Columns) -> None:
        with _opened(path) as file:
            names = file.schema_arrow.names
            image = choose_column(columns.image, IMAGE_COLUMNS, names, "--image-column", path)
            prompt = None
            if columns.text is None:
                prompt = choose_column(
                    columns.prompt, PROMPT_COLUMNS, names, "--prompt-column", path
                )
            self._names[path] = image, prompt
            inside = 0
            for group in range(file.num_row_groups):
                self._groups.append((path, group, self.count + inside, inside))
                inside += file.metadata.row_group(group).num_rows
            self.count += inside

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from a position on; row groups before it are not read."""
        for index, (path, group, first, inside) in enumerate(self._groups):
            after = self._groups[index + 1][2] if index + 1 < len(self._groups) else self.count
            if after <= start:
                continue
            place, number = writable(str(path)), first
            for image, prompt in self._cells(path, group):
                if number >= start:
                    yield self._images.row(
                        f"{place} row {inside + number - first + 1}", image, prompt
                    )
                number += 1

    def _cells(self, path: Path, group: int) -> Iterator[tuple[Any, Any]]:
        image, prompt = self._names[path]
        wanted = dict.fromkeys(
            name.partition(".")[0] for name in (image, prompt) if name is not None
        )
        with _opened(path) as file:
            try:
                for batch in file.iter_batches(
                    BATCH_ROWS, [group], columns=list(wanted), use_threads=False
                ):
                    for record in batch.to_pylist():
                        text = self._text if prompt is None else pick(record, prompt)
                        yield pick(record, image), text
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"{writable(str(path))}: row group {group} cannot be read ({error}); restore"
                    " the file"
                ) from None


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{writable(str(path))} is not a readable Parquet file ({error}); write it again"
        ) from None
