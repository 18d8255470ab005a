"""From cells to texts and numbers, a column at a time; Python handles distinct values only.

Shapes: N records, U distinct values.
"""

import json
import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.ingest.settings import Cell

OK, MISSING, MALFORMED = 0, 1, 2
"""States of a number."""
NO_VALUE = {"", "nan", "na", "n/a", "null", "none"}
"""Cells that mean a missing number."""


@dataclass
class Texts:
    """A text column."""

    codes: np.ndarray
    """[N] index of each record's text among the distinct ones; -1: none."""
    values: pa.Array
    """[U]"""

    def select(self, rows: np.ndarray) -> "Texts":
        """The column of some records."""
        return Texts(self.codes[rows], self.values)

    def take(self, index: np.ndarray | None = None) -> pa.Array:
        """The texts of some records, null where there is none."""
        codes = self.codes if index is None else self.codes[index]
        return self.values.take(pa.array(codes, mask=codes < 0))

    def listed(self) -> list[str]:
        """The distinct texts."""
        return self.values.to_pylist()


def no_texts(number: int) -> Texts:
    """A column without texts."""
    return Texts(np.full(number, -1, dtype=np.int32), pa.array([], pa.string()))


def texts(column: pa.Array, cell: Cell | None = None, trim: bool = True) -> Texts:
    """Read a column as text.

    Args:
        column: of any type; whole numbers are written without a decimal point.
        cell: the pattern to cut out.
        trim: remove leading and trailing space; blank cells are null in either case.
    """
    codes, distinct = _encode(column)
    values = _as_text(distinct)
    if cell is not None and cell.pattern is not None:
        values = pc.replace_substring_regex(values, pattern=cell.pattern, replacement=cell.to)
    trimmed = pc.utf8_trim_whitespace(values)
    blank = pc.fill_null(pc.equal(trimmed, ""), True).to_numpy(zero_copy_only=False)
    if blank.any():
        codes = np.where((codes >= 0) & ~blank[codes], codes, -1).astype(np.int32)
    return Texts(codes, trimmed if trim else values)


def numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Read a column as numbers.

    Returns:
        [N] values (NaN where there is none) and [N] states (OK, MISSING, MALFORMED).
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, np.where(np.isnan(values), MISSING, OK).astype(np.uint8)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), np.full(len(column), MISSING, dtype=np.uint8)
    codes, distinct = _encode(column)
    if not _is_text(distinct.type):
        state = np.where(codes < 0, MISSING, MALFORMED).astype(np.uint8)
        return np.full(len(column), np.nan), state
    values_U, states_U = _parse(pc.utf8_trim_whitespace(distinct))
    values_U, states_U = np.append(values_U, np.nan), np.append(states_U, np.uint8(MISSING))
    return values_U[codes], states_U[codes]  # a code of -1 is the last


def number_lists(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a column of lists of numbers, or of texts that hold such lists.

    Returns:
        Numbers of all lists, concatenated, their states, and [N] lengths; a cell that is not a
        list counts as one malformed (or missing) number.
    """
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        values, states = numbers(column.flatten())
        if not (lengths == 0).any():
            return values, states, lengths
        starts = (np.cumsum(lengths) - lengths)[lengths == 0]  # an empty list lacks its value
        values = np.insert(values, starts, np.nan)
        return values, np.insert(states, starts, MISSING), np.maximum(lengths, 1)
    read = [_parse_list(value) for value in column.to_pylist()]
    lengths = np.array([len(one) for one in read], dtype=np.int64)
    pairs = [pair for one in read for pair in one]
    values = np.array([value for value, _ in pairs], dtype=float)
    return values, np.array([state for _, state in pairs], dtype=np.uint8), lengths


def _parse_list(value: object) -> list[tuple[float, int]]:
    if value is None or not str(value).strip():
        return [(math.nan, MISSING)]
    try:
        parts = json.loads(str(value))
    except json.JSONDecodeError:
        parts = re.split(r"[|;,\s]+", str(value).strip("[]() \t"))
    if not isinstance(parts, list):
        parts = [parts]
    return [_parse_one(part) for part in parts] or [(math.nan, MISSING)]


def _parse_one(value: object) -> tuple[float, int]:
    if value is None or (isinstance(value, str) and value.strip().casefold() in NO_VALUE):
        return math.nan, MISSING
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan, MALFORMED
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan, MALFORMED
    return number, MISSING if math.isnan(number) else OK


def _parse(distinct: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    try:
        values = distinct.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values, np.where(np.isnan(values), MISSING, OK).astype(np.uint8)
    except pa.ArrowInvalid:
        pairs = [_parse_one(value) for value in distinct.to_pylist()]
    states = np.array([state for _, state in pairs], dtype=np.uint8)
    return np.array([value for value, _ in pairs], dtype=float), states


def _encode(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes [N] (-1: null) and the distinct values [U]."""
    if pa.types.is_list(column.type) or pa.types.is_struct(column.type):
        column = pa.array([None if one is None else str(one) for one in column.to_pylist()])
        codes, distinct = _encode(column)
        return codes, distinct.cast(pa.large_binary())  # neither text nor number
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False), column.dictionary


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _as_text(distinct: pa.Array) -> pa.Array:
    if pa.types.is_string(distinct.type):
        return distinct
    if pa.types.is_floating(distinct.type):
        whole = [
            str(int(value)) if float(value).is_integer() else repr(value)
            for value in distinct.to_pylist()
        ]
        return pa.array(whole, pa.string())
    if pa.types.is_binary(distinct.type) or pa.types.is_large_binary(distinct.type):
        return pa.array([value.decode("utf-8", "replace") for value in distinct.to_pylist()])
    return distinct.cast(pa.string())


def combine(codes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct combinations of several code columns.

    Returns:
        [N] number of each record's combination, and [U] a record that has it.
    """
    combined = codes[0].astype(np.int64)
    for other in codes[1:]:
        dense = pd.factorize(combined)[0].astype(np.int64)
        combined = dense * (int(other.max(initial=-1)) + 2) + other + 1
    dense, distinct = pd.factorize(combined)
    first = np.empty(len(distinct), dtype=np.int64)
    first[dense[::-1]] = np.arange(len(dense))[::-1]
    return dense, first
