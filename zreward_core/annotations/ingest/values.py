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

from zreward_core.annotations.formats.records import BLANK, is_text
from zreward_core.annotations.ingest.column_settings import Cell, as_word

OK, MISSING, MALFORMED, ROUNDED = 0, 1, 2, 3
"""States of a number; ROUNDED: its annotator is."""
NO_VALUE = {"", "nan", "na", "n/a", "#n/a", "null", "none"}
"""Cells that mean a missing number."""
COMMA, POINT = ",", "."
_GROUPED = {
    POINT: re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?"),
    COMMA: re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?"),
}
"""Numbers with thousands separators, by their decimal mark."""
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+")


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
        cell: gives the pattern to replace, and the values of words.
        trim: remove leading and trailing space; blank cells are null in either case.
    """
    codes, distinct = _encode(column, cell is not None and cell.pattern is not None)
    values = _as_text(distinct)
    if cell is not None:
        values = _rewritten(values, cell)
    trimmed = _trimmed(values)
    blank = pc.fill_null(pc.equal(trimmed, ""), True).to_numpy(zero_copy_only=False)
    if blank.any():
        codes = np.where((codes >= 0) & ~blank[codes], codes, -1).astype(np.int32)
    return Texts(codes, trimmed if trim else values)


def _trimmed(values: pa.Array) -> pa.Array:
    """Distinct texts without space and invisible characters at their ends."""
    content = values.buffers()[2]
    if content is None or content.to_pybytes().isascii():  # Arrow trims these much faster
        return pc.utf8_trim_whitespace(values)
    return pc.utf8_trim(values, characters=BLANK)


def _rewritten(values: pa.Array, cell: Cell) -> pa.Array:
    """Distinct texts after the pattern and the words of a cell."""
    if cell.pattern is not None:
        values = pc.replace_substring_regex(values, pattern=cell.pattern, replacement=cell.to)
    if cell.words:
        found = [
            text if text is None else cell.words.get(as_word(text), text)
            for text in values.to_pylist()
        ]
        values = pa.array(found, pa.string())
    return values


def identifiers(column: pa.Array, cell: Cell) -> Texts:
    """Read a column of identifiers: 12.0, which some tools write for 12, is read as 12."""
    found = texts(column, cell)
    whole = pc.replace_substring_regex(found.values, pattern=r"^(\d+)\.0+$", replacement=r"\1")
    return Texts(found.codes, whole)


def numbers(
    column: pa.Array, cell: Cell | None = None, decimal: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a column as numbers.

    Args:
        column: of any type.
        cell: gives the pattern to replace, and the values of words.
        decimal: the decimal mark of numbers in text; None: detected.

    Returns:
        [N] values (NaN where there is none) and [N] states (OK, MISSING, MALFORMED).
    """
    rewritten = cell is not None and (cell.pattern is not None or bool(cell.words))
    if pa.types.is_dictionary(column.type) and not is_text(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), np.full(len(column), MISSING, dtype=np.uint8)
    if _is_number(kind) and not rewritten:
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, np.where(np.isnan(values), MISSING, OK).astype(np.uint8)
    codes, distinct = _encode(column, cell is not None and cell.pattern is not None)
    if not is_text(distinct.type) and not (_is_number(distinct.type) and rewritten):
        state = np.where(codes < 0, MISSING, MALFORMED).astype(np.uint8)
        return np.full(len(column), np.nan), state
    distinct = _as_text(distinct)
    if cell is not None:
        distinct = _rewritten(distinct, cell)
    values_U, states_U = _parse(_trimmed(distinct), decimal)
    values_U, states_U = np.append(values_U, np.nan), np.append(states_U, np.uint8(MISSING))
    return values_U[codes], states_U[codes]  # a code of -1 is the last


def parse_number(value: object, decimal: str | None = None) -> tuple[float, int]:
    """A number and its state.

    Without a declared decimal mark, 4,5 is read as 4.5, and 1,234 is malformed because it is
    ambiguous.
    """
    if value is None or (isinstance(value, str) and value.strip().casefold() in NO_VALUE):
        return math.nan, MISSING
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan, MALFORMED
    try:
        number = float(_with_point(value, decimal) if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return math.nan, MALFORMED
    return number, MISSING if math.isnan(number) else OK


def _with_point(value: str, decimal: str | None) -> str:
    """A number in text as Python writes it; an ambiguous one is unchanged."""
    text = value.strip()
    if "_" in text:  # Python reads 1_000
        return ""
    mark = decimal
    if mark is None and COMMA in text:
        one_way = _COMMA_NUMBER.fullmatch(text) and not _GROUPED[POINT].fullmatch(text)
        mark = COMMA if one_way or text.find(POINT) in range(text.find(COMMA)) else None
        grouped = _GROUPED[POINT].fullmatch(text) and (text.count(COMMA) > 1 or POINT in text)
        mark = POINT if grouped else mark
    if mark is None:
        return text
    if _GROUPED[mark].fullmatch(text):
        text = text.replace(POINT if mark == COMMA else COMMA, "")
    elif mark == COMMA and POINT in text:
        return ""
    return text.replace(COMMA, POINT) if mark == COMMA else text


def _parse(distinct: pa.Array, decimal: str | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        if decimal == COMMA:
            raise pa.ArrowInvalid("")
        values = distinct.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values, np.where(np.isnan(values), MISSING, OK).astype(np.uint8)
    except pa.ArrowInvalid:
        pairs = [parse_number(value, decimal) for value in distinct.to_pylist()]
    states = np.array([state for _, state in pairs], dtype=np.uint8)
    return np.array([value for value, _ in pairs], dtype=float), states


def _encode(column: pa.Array, as_json: bool = False) -> tuple[np.ndarray, pa.Array]:
    """Codes [N] (-1: null) and the distinct values [U].

    Args:
        column: of any type.
        as_json: lists and objects become text that a pattern can search.
    """
    if pa.types.is_nested(column.type):
        lines = [
            None if one is None else json.dumps(one, ensure_ascii=False, default=str)
            for one in column.to_pylist()
        ]
        codes, distinct = _encode(pa.array(lines, pa.string()))
        # Without a pattern they are neither text nor number.
        return codes, distinct if as_json else distinct.cast(pa.large_binary())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False), column.dictionary


def _is_number(kind: pa.DataType) -> bool:
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(one(kind) for one in known)


def _as_text(distinct: pa.Array) -> pa.Array:
    if pa.types.is_string(distinct.type):
        return distinct
    if pa.types.is_floating(distinct.type):
        return pa.array([_float_text(value) for value in distinct.to_pylist()], pa.string())
    if pa.types.is_decimal(distinct.type):
        plain = [format(value.normalize(), "f") for value in distinct.to_pylist()]
        return pa.array(plain, pa.string())
    if pa.types.is_large_binary(distinct.type):  # JSON of nested cells (``_encode``)
        return distinct.cast(pa.string())
    return distinct.cast(pa.string())


def _float_text(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


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
