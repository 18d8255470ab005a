"""Batches of records: what every tabular format is read into before it is mapped."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

BATCH_ROWS = 2**18
"""Records in a batch where a reader can choose."""
RAW_LENGTH = 2000
"""Quarantined records are kept up to this many characters."""


@dataclass
class Records:
    """Some records of a file, as far as they could be read."""

    columns: dict[str, pa.Array]
    """A column for each name that was asked for; absent keys are null."""
    numbers: np.ndarray
    """Number of each record in its file."""
    unit: str = "row"
    """What is numbered: row (of a table, its header being row 1), line or record."""
    broken: list[tuple[int, str]] = field(default_factory=list)
    """Number and text of records that could not be read."""
    num_repaired: int = 0
    """Records that a line break had torn and that were put together again."""

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Wanted:
    """What a reader is asked for."""

    names: tuple[str, ...]
    """Columns, dotted where nested."""
    encoding: str | None = None
    """Declared encoding of text files."""
    records: str | None = None
    """Where the records lie in a JSON file."""


Reader = Callable[[Path, Wanted], Iterator[Records]]


def batches_of(numbered: Iterable[tuple[int, Any]], wanted: Wanted, unit: str) -> Iterator[Records]:
    """Batches of Python records (mappings); anything else among them is broken."""
    rows: list[tuple[int, dict]] = []
    broken: list[tuple[int, str]] = []
    for number, record in numbered:
        if isinstance(record, dict):
            rows.append((number, record))
        else:
            broken.append((number, record if isinstance(record, str) else raw_text(record)))
        if len(rows) + len(broken) >= BATCH_ROWS:
            yield _batch(rows, broken, wanted, unit)
            rows, broken = [], []
    if rows or broken:
        yield _batch(rows, broken, wanted, unit)


def _batch(
    rows: list[tuple[int, dict]], broken: list[tuple[int, str]], wanted: Wanted, unit: str
) -> Records:
    numbers = np.array([number for number, _ in rows], dtype=np.int64)
    columns = {name: _column([pick(row, name) for _, row in rows]) for name in wanted.names}
    return Records(columns, numbers, unit, broken)


def pick(record: Any, name: str) -> Any:
    """The value under a dotted name; a key that itself has dots is found first; None if absent."""
    if isinstance(record, dict) and name in record:
        return record[name]
    head, _, rest = name.partition(".")
    if isinstance(record, dict):
        value = record.get(head)
    elif isinstance(record, list) and head.isdigit() and int(head) < len(record):
        value = record[int(head)]
    else:
        value = None
    return pick(value, rest) if rest and value is not None else value


def _column(values: list[Any]) -> pa.Array:
    """An Arrow column; values of several types become text, each as JSON writes it."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and bool not in kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {list}:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
    if kinds == {bool}:
        return pa.array(values)
    return pa.array([None if value is None else _clean(value) for value in values], pa.string())


def _clean(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def raw_text(record: Any) -> str:
    """A record as it goes to quarantine."""
    return _clean(json.dumps(record, ensure_ascii=False, default=str))[:RAW_LENGTH]
