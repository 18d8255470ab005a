"""Records: what every format is read into before it is mapped to judgements."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from zreward_core import config
from zreward_core.config import UserError, writable
from zreward_core.json_faults import extra_comma
from zreward_core.schemas import INVISIBLE, normalise_prompt

BATCH_ROWS = 2**18
"""Records per batch, where the reader can choose."""
RAW_LENGTH = 2000
"""Characters kept of a quarantined record."""
MATCH_SECONDS = 1.0
"""Time in which a regular expression of the settings must match or fail."""
BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE
"""Characters at the ends of a cell or of a column's name that are not part of it."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of a surrogate in JSON, alone or in a pair."""
EXACT = 2**53
"""Integers from here on may not be exact as floats; 64-bit identifiers can be as large."""


@dataclass
class Records:
    """A batch of N records of a file."""

    columns: dict[str, pa.Array]
    """One [N] column per requested name; absent keys are null."""
    refs: pa.Array
    """[N] place of each record in its file, such as "row 3"."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Place and text of records that could not be read."""
    num_repaired: int = 0
    """Records that were split by a line break and have been joined again."""
    faults: list[str | None] | None = None
    """[N] quarantine reasons that the reader found; None: no faults."""
    raw: list[Any] | None = None
    """[N] text that is quarantined for a faulty record; None: its columns."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Reason to the number of entries without a judgement, which are not among the records."""
    num_native: int | None = None
    """Native judgements of the batch, if the reader counts them independently of reading."""

    def __len__(self) -> int:
        return len(self.refs)

    def select(self, rows: np.ndarray) -> "Records":
        """The records at the given positions, without the fields of the whole batch."""
        index = pa.array(rows)
        return Records(
            {name: column.take(index) for name, column in self.columns.items()},
            self.refs.take(index),
            faults=None if self.faults is None else [self.faults[row] for row in rows],
            raw=None if self.raw is None else [self.raw[row] for row in rows],
        )


@dataclass(frozen=True)
class Wanted:
    """Request to a reader: columns, encoding, location of the records."""

    names: tuple[str, ...]
    """Columns, dotted where nested."""
    encoding: str | None = None
    """Declared encoding of text files."""
    records: str | None = None
    """Dotted path of the records in a JSON file."""
    delimiter: str | None = None
    """Declared delimiter of a text table."""
    header_row: int = 1
    """Line or row with the column names."""
    sheet: str | int | None = None
    """Name or number (from 1) of the sheet of a workbook."""
    pattern: str | None = None
    """Regular expression that matches the names of further columns, all with judgements."""
    judged: frozenset[str] = frozenset()
    """Columns with judgements; the others describe them."""
    notes: list[str] = field(default_factory=list, compare=False)
    """Filled by the reader: what it assumed about the file."""
    problems: list[str] = field(default_factory=list, compare=False)
    """Filled by the reader: why records are broken, one of each kind."""
    skip_blank: bool = False
    """Leave out the rows of a text table or workbook whose cells are all empty."""


class MissingColumn(UserError):
    """A table lacks a column."""

    def __init__(self, problem: str, header: list[str]) -> None:
        super().__init__(
            f"{problem}; correct `columns` (and `dimension`) of the source in params.yaml"
        )
        self.problem = problem
        """The message without its remedy, which depends on the command."""
        self.header = header
        """Names of all columns of the table."""


FORMAT_SETTINGS = ("encoding", "records", "delimiter", "header_row", "sheet")
"""Settings of a source that only some formats read."""


Reader = Callable[[Path, Wanted], Iterator[Records]]


@dataclass(frozen=True)
class Format:
    """A file format."""

    read: Reader
    suffix: str
    """Suffix of its files, for sources that are folders."""
    other_suffixes: tuple[str, ...] = field(default=(), kw_only=True)
    """Further suffixes of its files."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Source settings that follow from the format; those of params.yaml override them."""
    reads: tuple[str, ...] = ()
    """Which of ``FORMAT_SETTINGS`` it reads; the others are rejected."""


def header_columns(header: list[str], wanted: Wanted, path: Path) -> dict[str, str]:
    """The columns of a table to read.

    Args:
        header: names of all columns of the table.
        wanted: names and pattern.
        path: for messages.

    Returns:
        Requested name to the name of the table's column; the rest of the requested name is a path
        into the JSON of its cells.

    Raises:
        MissingColumn: a column is missing.
        UserError: its name occurs twice.
    """
    tops = {name: _top(name, header) for name in wanted.names}
    missing = [name for name, top in tops.items() if top is None]
    if wanted.pattern is not None:
        found = [name for name in header if matched(wanted.pattern, name)]
        missing += [] if found else [f"that matches '{wanted.pattern}'"]
        tops |= {name: name for name in found}
    if missing:
        problem = f"{path}: no column {', '.join(missing)} in its header ({', '.join(header)})"
        forms = {normalise_prompt(name): name for name in header}
        alike = [forms[form] for name in missing if (form := normalise_prompt(name)) in forms]
        if alike:  # case, no-break spaces, Unicode forms
            problem += f"; copy the name from here: {', '.join(map(json.dumps, alike))}"
        raise MissingColumn(problem, header)
    twice = sorted({top for top in tops.values() if top and header.count(top) > 1})
    if twice:
        raise UserError(
            f"{path}: the column {', '.join(twice)} occurs twice in its header "
            f"({', '.join(header)}); rename one of the two in the file"
        )
    return {name: top for name, top in tops.items() if top is not None}


def matched(pattern: str, name: str, whole: bool = True) -> regex.Match[str] | None:
    """Match of a pattern of the settings with a name, which can have several lines.

    Args:
        whole: match the whole name, not a part of it.

    Raises:
        UserError: the search takes longer than ``MATCH_SECONDS``.
    """
    match = regex.fullmatch if whole else regex.search
    try:
        return match(pattern, name, regex.DOTALL if whole else 0, timeout=MATCH_SECONDS)
    except TimeoutError:
        raise UserError(
            f"the regular expression '{pattern}' takes more than {MATCH_SECONDS:g} s on the name"
            f" '{name[:80]}'; rewrite it without repetitions inside repetitions, such as (a+)+"
        ) from None


def _top(name: str, header: list[str]) -> str | None:
    """The longest column name that equals the name or is a dotted prefix of it."""
    parts = name.split(".")
    starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((start for start in starts if start in header), None)


def inside(column: pa.Array, path: str) -> pa.Array:
    """The values at a dotted path in the JSON of text cells."""
    if not path:
        return column
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = [pick(parsed(text), path) for text in column.dictionary.to_pylist()]
    return column_of(found).take(column.indices)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is text, plain or dictionary-encoded."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def parsed(value: Any) -> Any:
    """The list or object in JSON text, parsed; any other value is unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            pass
    return value


def parse_json(text: str, **options: Any) -> Any:
    """``config.parse_json``, with all texts made ``writable``."""
    content = config.parse_json(text, **options)
    return _all_writable(content) if _SURROGATE.search(text) else content


def _all_writable(value: Any) -> Any:
    if isinstance(value, dict):
        return {writable(key): _all_writable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_all_writable(one) for one in value]
    return writable(value) if isinstance(value, str) else value


def batches_of(numbered: Iterable[tuple[int, Any]], wanted: Wanted, unit: str) -> Iterator[Records]:
    """Batches of Python records.

    Args:
        numbered: number and record; a record that is not a mapping is broken.
        wanted: the columns.
        unit: row (the header is row 1), line or record.
    """
    rows: list[dict[str, Any]] = []
    refs: list[str] = []
    broken: list[tuple[str, str]] = []
    for number, record in numbered:
        ref = f"{unit} {number}"
        if isinstance(record, dict):
            rows.append(record)
            refs.append(ref)
        else:
            broken.append((ref, record if isinstance(record, str) else raw_text(record)))
            if not wanted.problems:
                wanted.problems.append(f"{ref} is not a record with names and values{_why(record)}")
        if len(rows) + len(broken) >= BATCH_ROWS:
            yield Records(columns_of(rows, wanted), pa.array(refs, pa.string()), broken)
            rows, refs, broken = [], [], []
    if rows or broken:
        yield Records(columns_of(rows, wanted), pa.array(refs, pa.string()), broken)


def _why(record: Any) -> str:
    """The remedy for a line that is not a record because of an extra comma, else an empty text."""
    try:
        parse_json(record if isinstance(record, str) else "{}")
    except json.JSONDecodeError as error:
        if (comma := extra_comma(error)) is not None:
            return f": remove the comma at column {comma + 1}"
    except ValueError:
        pass
    return ""


def columns_of(rows: list[dict[str, Any]], wanted: Wanted) -> dict[str, pa.Array]:
    """The wanted columns of Python records."""
    names = dict.fromkeys(wanted.names)
    if wanted.pattern is not None:
        keys = dict.fromkeys(key for row in rows for key in row)
        names |= {key: None for key in keys if matched(wanted.pattern, key)}
    return {name: column_of([pick(row, name) for row in rows]) for name in names}


def refs_of(unit: str, numbers: np.ndarray) -> pa.Array:
    """Places of numbered records: "row 3"."""
    return pc.binary_join_element_wise(f"{unit} ", pa.array(numbers).cast(pa.string()), "")


def pick(record: Any, name: str) -> Any:
    """The value at a dotted name, None if absent; a key that itself has dots takes precedence."""
    record = parsed(record)
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


def column_of(values: list[Any]) -> pa.Array:
    """An Arrow column; values of mixed types become text, written as JSON."""
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds == {int, float} and max(map(abs, filter(None, values)), default=0) < EXACT:
            numbers = [None if value is None else float(value) for value in values]
            return pa.array(numbers, pa.float64())
        if kinds in ({int}, {float}, {list}, {bool}):
            return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # lists of mixed types, 10**400
        pass
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return writable(text)


def raw_text(record: Any) -> str:
    """A record as written to quarantine."""
    return writable(json.dumps(record, ensure_ascii=False, default=str))[:RAW_LENGTH]
