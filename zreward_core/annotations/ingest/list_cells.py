"""List cells: several values in the cell of one record.

A list cell is a list of the file, JSON in text, or text with separators. Separators are detected
for the whole column: bars, semicolons, and white space between numbers; a comma is a separator only
if no cell has another separator and at least one cell is unambiguous, since 4,5 can also be a
decimal number.

Shapes: N records, M values of all lists.
"""

import json
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import parsed
from zreward_core.annotations.ingest.column_settings import Cell, as_word
from zreward_core.annotations.ingest.values import (
    COMMA,
    MALFORMED,
    MISSING,
    parse_number,
    texts,
)

_HARD = re.compile(r"\s{0,9}[|;\n]\s*")
_SPACES = re.compile(r"(?<![,\s])\s+(?![,\s])")
_COMMAS = re.compile(r"\s{0,9},\s*")
_MAYBE_NUMBERS = re.compile(r"[\d.+-]*\d,\d+(\s+[\d.+-]*\d,\d+)*")
"""Numbers with decimal commas, or two numbers separated by a comma."""


def number_lists(
    column: pa.Array, cell: Cell, decimal: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a column of lists of numbers.

    Returns:
        [M] numbers, [M] states, and [N] lengths; a cell that is not a list counts as one malformed
        (or missing) number.
    """
    plain = not (cell.pattern or cell.words)
    if plain and pa.types.is_list(column.type) and _holds_numbers(column.type.value_type):
        return _flattened(column)
    lists = [
        [parse_number(_meaning(part, cell), decimal) for part in parts]
        if parts is not None
        else [(math.nan, MALFORMED)]
        for parts in _lists(column, cell)
    ]
    lists = [one or [(math.nan, MISSING)] for one in lists]
    pairs = [pair for one in lists for pair in one]
    values = np.array([value for value, _ in pairs], dtype=float)
    states = np.array([state for _, state in pairs], dtype=np.uint8)
    return values, states, np.array([len(one) for one in lists], dtype=np.int64)


def text_lists(column: pa.Array, cell: Cell) -> tuple[pa.Array, np.ndarray]:
    """Read a column of lists of texts, such as the raters of a list of scores.

    Returns:
        [M] texts (null: none) and [N] lengths; 0 for a cell that is not a list.
    """
    lists = [parts or [] for parts in _lists(column, cell)]
    flat = [_text(_meaning(part, cell)) for parts in lists for part in parts]
    return pa.array(flat, pa.string()), np.array([len(one) for one in lists], dtype=np.int64)


def _lists(column: pa.Array, cell: Cell) -> list[list[Any] | None]:
    """[N] parts of each cell; an empty list for an empty cell, None for one that is ambiguous."""
    if pa.types.is_list(column.type) and cell.pattern is None:
        return [one or [] for one in column.to_pylist()]
    read = texts(column, cell.model_copy(update={"words": {}}))
    found = [_json(text) for text in read.listed()]
    separator = cell.separator
    plain = [text for text, one in zip(read.listed(), found, strict=True) if one is None]
    commas = _commas_separate(plain) if separator is None else None
    distinct = [
        one if one is not None else _split(text, separator, commas)
        for text, one in zip(read.listed(), found, strict=True)
    ]
    return [distinct[code] if code >= 0 else [] for code in read.codes]


def _json(text: str) -> list[Any] | None:
    """The parts of a JSON list; None if the text is not a JSON list or object."""
    content = parsed(text)
    if isinstance(content, dict):
        return [content]
    return content if isinstance(content, list) else None


def _commas_separate(cells: list[str]) -> bool | None:
    """Whether commas separate the values of a column; None: ambiguous."""
    if any(_HARD.search(text) or _SPACES.search(text.strip()) for text in cells):
        return False
    if any(text.count(COMMA) > 1 or re.search(r",\s|\s,", text) for text in cells):
        return True
    return None


def _split(text: str, separator: str | None, commas: bool | None) -> list[str] | None:
    bracketed = text[:1] in ("[", "(", "{")
    text = text.strip("[](){} \t")
    if separator is not None:
        parts = text.split(separator)
    elif _HARD.search(text):
        parts = _HARD.split(text)
    elif COMMA in text and (bracketed or commas or not _MAYBE_NUMBERS.fullmatch(text)):
        parts = _COMMAS.split(text)
    elif COMMA in text and commas is None:
        return None
    else:
        parts = text.split()
    return [part.strip(" \t'\"") for part in parts]


def _meaning(part: Any, cell: Cell) -> Any:
    if part is None or not cell.words:
        return part
    text = part if isinstance(part, str) else json.dumps(part)
    return cell.words.get(as_word(text), part)


def _text(part: Any) -> str | None:
    if part is None:
        return None
    text = part if isinstance(part, str) else json.dumps(part)
    return re.sub(r"^(\d+)\.0+$", r"\1", text.strip()) or None


def _holds_numbers(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _flattened(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = column.flatten().cast(pa.float64(), safe=False)
    values = flat.to_numpy(zero_copy_only=False)
    states = np.where(np.isnan(values), MISSING, 0).astype(np.uint8)
    starts = (np.cumsum(lengths) - lengths)[lengths == 0]  # an empty list is one missing value
    values = np.insert(values, starts, np.nan)
    return values, np.insert(states, starts, MISSING), np.maximum(lengths, 1)
