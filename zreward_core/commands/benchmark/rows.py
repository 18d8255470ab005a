"""Rows of the annotation files, strictly: a row that cannot be read ends the command."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.formats.json_records import load_json
from zreward_core.annotations.formats.records import Wanted, parsed, pick
from zreward_core.annotations.ingest.public_sets import load_public_set
from zreward_core.config import UserError, is_unicode, writable

LABELS = {"a": 1.0, "b": -1.0, "tie": 0.0, "both_bad": 0.0}
"""Votes of the public sets' settings to ``Pair.label``."""


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    path: Path
    ref: str
    """Its place in the file, such as "record 3"."""
    content: Mapping[str, Any]
    index: int | None = None
    """Its position in a Parquet file."""

    @property
    def place(self) -> str:
        """File and row."""
        return writable(f"{self.path} {self.ref}")

    def fault(self, problem: str) -> NoReturn:
        """Report a row that is not as published.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{self.place}: {writable(problem)}; correct the row or download the file again"
        )

    def get(self, name: str) -> Any:
        """The value at a dotted name; None if there is none."""
        return pick(self.content, name)

    def text(self, name: str) -> str:
        """A text that is not blank."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or not is_unicode(value):
            self.fault(f"'{name}' is {_shown(value)}, not a text")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        return self.as_number(name, self.get(name))

    def as_number(self, name: str, value: Any) -> float:
        """The value of a name, checked to be a finite number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            self.fault(f"'{name}' has {_shown(value)}, not a number")
        return float(value)

    def numbers(self, name: str, length: int | None = None) -> list[float]:
        """A list of numbers, of a given length."""
        values = self._list(name, length)
        return [self.as_number(name, value) for value in values]

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self._list(name, None)
        for value in values:
            if not isinstance(value, str) or not value or not is_unicode(value):
                self.fault(f"'{name}' has {_shown(value)}, not a text")
        return values

    def _list(self, name: str, length: int | None) -> list[Any]:
        value = parsed(self.get(name))
        if not isinstance(value, list) or not value:
            self.fault(f"'{name}' is {_shown(value)}, not a list")
        if length is not None and len(value) != length:
            self.fault(f"'{name}' has {len(value)} values for {length} images")
        return value

    def vote(self, settings: Mapping[str, Any]) -> str:
        """The answer a, b, tie or both_bad, by the `vote` settings of a public set."""
        if "value" in settings:
            return settings["value"]
        word = self.get(settings["column"])
        answer = settings["map"].get(str(word))
        if answer is None:
            words = ", ".join(settings["map"])
            self.fault(f"'{settings['column']}' is {_shown(word)}; expected one of {words}")
        return answer


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:80]


def columns_of(public_set: str) -> dict[str, Any]:
    """Column names of a public set's files."""
    return load_public_set(public_set).settings["columns"]


def find_files(folder: Path, patterns: Sequence[str], title: str) -> list[Path]:
    """The files of the first pattern that has any, sorted.

    Raises:
        UserError: there is no such folder or file.
    """
    if not folder.is_dir():
        raise UserError(f"{writable(str(folder))} is not a folder: pass the folder of {title}")
    for pattern in patterns:
        if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
            return found
    raise UserError(
        f"{writable(str(folder))} has no {' or '.join(patterns)}: download {title} into it"
    )


def json_rows(path: Path, records: str | None = None) -> Iterator[Row]:
    """Records of a JSON list, or of the list at a key.

    Raises:
        UserError: the file is not such JSON, or a record is not an object.
    """
    content = load_json(path)
    content = content if records is None else pick(content, records)
    if not isinstance(content, list) or not content:
        where = "" if records is None else f" at '{records}'"
        raise UserError(f"{path}: no list of records{where}; download the file again")
    for number, record in enumerate(content, start=1):
        row = Row(path, f"record {number}", record if isinstance(record, dict) else {})
        if not isinstance(record, dict):
            row.fault(f"{_shown(record)} is not an object")
        yield row


def format_rows(path: Path, name: str, columns: Sequence[str]) -> Iterator[Row]:
    """Records of a file of one of the annotation formats."""
    for records in FORMATS[name].read(path, Wanted(tuple(columns))):
        for ref, text in records.broken:
            Row(path, ref, {}).fault(f"{text[:80]} is not a record")
        cells = [records.columns[column].to_pylist() for column in columns]
        for ref, *values in zip(records.refs.to_pylist(), *cells, strict=True):
            yield Row(path, ref, dict(zip(columns, values, strict=True)))


def parquet_rows(path: Path, columns: Sequence[str], images: Sequence[str]) -> Iterator[Row]:
    """Rows of a Parquet file without its images.

    Raises:
        UserError: the file is not Parquet, or lacks a column.
    """
    names = parquet_columns(path)
    if missing := [name for name in (*columns, *images) if name not in names]:
        raise UserError(
            f"{path}: no column {', '.join(missing)} ({', '.join(names)}); download it again"
        )
    batches = pq.ParquetFile(path).iter_batches(columns=list(columns))
    contents = (content for batch in batches for content in batch.to_pylist())
    for index, content in enumerate(contents):
        yield Row(path, f"row {index + 1}", content, index)


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a Parquet file.

    Raises:
        UserError: the file is not Parquet.
    """
    try:
        return pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error})") from None
