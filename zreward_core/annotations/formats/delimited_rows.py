"""Rows of a delimited file that do not fit its header: rejoined, or broken for a stated reason."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zreward_core.annotations.formats.records import RAW_LENGTH

MAX_CELL_LINES = 200
"""A quoted cell of more lines counts as an unclosed quote."""
WHOLE_CELL = re.compile(
    r"(?P<number>[-+]?\d+(?:[.,]\d+)?)|(?P<address>(?:https?|s3|gs)://\S+)"
    r"|(?P<file>.*\.(?:png|jpe?g|webp|gif|bmp|avif|tiff?))",
    re.IGNORECASE,
)
"""Cells that a line break does not split."""
LONG_NAME = 8
"""Characters of an identifier that is taken for one by its length, such as a hash."""
OPEN, WHOLE, FAULTY = "open", "whole", "faulty"
"""States of the quotes of a row; faulty: a quote inside a cell is not doubled."""

csv.field_size_limit(2**27)


@dataclass(frozen=True)
class Table:
    """A delimited file before its rows are read."""

    path: Path
    encoding: str
    delimiter: str
    header_row: int
    """Line of the header."""
    header: list[str]
    """Names of the columns; none in an empty file."""
    tops: dict[str, str]
    """Requested name to the column that contains it."""
    faults: dict[str, int] = field(default_factory=dict)
    """Why rows cannot be read, with the first such row; filled while the rows are read."""

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(self.tops.values()))


def rejoined(
    rows: Iterable[tuple[int, str | dict]], table: Table, skip_blank: bool, joined: list[int]
) -> Iterator[tuple[int, str | dict]]:
    """Join rows that were split by a line break inside an unquoted cell.

    Two neighbouring rows are joined if their cells, with the two at the break merged, are as many
    as the header's, unless they look like two rows that end early. All others are broken.

    Args:
        rows: in the order of the file, those that do not fit the header as text.
        skip_blank: leave out lines of white space.
        joined: the numbers of joined rows are added to it.

    Yields:
        number, and record or the text of a broken row.
    """
    waiting: tuple[int, str] | None = None
    for number, row in rows:
        if isinstance(row, str) and skip_blank and not row.strip():
            continue
        if waiting is not None:
            together = (
                _joined(waiting[1], row, table)
                if isinstance(row, str) and number == waiting[0] + 1
                else None
            )
            if together:
                joined.append(waiting[0])
            yield waiting[0], together or _broken(*waiting, table)
            waiting = None
            if together:
                continue
        if isinstance(row, str):
            waiting = number, row
        else:
            yield number, row
    if waiting is not None:
        yield waiting[0], _broken(*waiting, table)


def _joined(first: str, second: str, table: Table) -> dict | None:
    """The record of which two rows are the parts; None if they are not."""
    delimiter = table.delimiter
    cells, rest = cells_of(first, delimiter), cells_of(second, delimiter)
    # An unclosed quote hides the cells after it.
    whole = {_quoting(one, delimiter) for one in (first, second)} == {WHOLE}
    fit = len(cells) + len(rest) - 1 == len(table.header) and "\ufffd" not in first + second
    if not (whole and fit and len(rest) > 1 and len(cells) > 1) or _are_two(cells, rest):
        return None
    return dict(zip(table.header, [*cells[:-1], f"{cells[-1]}\n{rest[0]}", *rest[1:]], strict=True))


def _are_two(first: list[str], second: list[str]) -> bool:
    """Whether the cells of two short rows are those of two rows without their last cells.

    The second row begins as the first does, or no text is open at the break.
    """
    return _alike(first[0].strip(), second[0].strip()) or _kind(first[-1].strip()) is not None


def _alike(first: str, second: str) -> bool:
    """Whether two cells are numbers, addresses, images, or identifiers of one form."""
    kind = _kind(first)
    if kind is not None or _kind(second) is not None:
        return kind == _kind(second)
    if not all(re.fullmatch(r"\S*\d\S*", one) for one in (first, second)):
        return False
    same = {re.sub(r"\d+", "0", one) for one in (first, second)}
    return len(same) == 1 or len(first) == len(second) >= LONG_NAME


def _kind(cell: str) -> str | None:
    found = WHOLE_CELL.fullmatch(cell)
    return found.lastgroup if found else None


def _broken(number: int, text: str, table: Table) -> str:
    """What is kept of a row that cannot be read; why is added to the faults of the table."""
    table.faults.setdefault(_fault(text, table), number)
    return text[:RAW_LENGTH]


def _fault(text: str, table: Table) -> str:
    """Why a row cannot be read, and the remedy."""
    if "\ufffd" in text:
        return f"bytes that are not {table.encoding}; correct `encoding`, or export the file again"
    if _quoting(text, table.delimiter) != WHOLE:
        return "a quote is not closed or not doubled; correct the quotes"
    cells, width = cells_of(text, table.delimiter), len(table.header)
    number = len(cells)
    if number > width and not any(cells[width:]):
        remedy = "remove the delimiters at its end, or add them to the header"
    elif number > width:
        remedy = f"put cells that contain '{table.delimiter}' in quotes"
    else:
        remedy = "complete the row"
    return f"{number} cells, the header has {width}; {remedy}"


def rows_of(lines: Iterator[str], delimiter: str, width: int) -> Iterator[str]:
    """Rows of one line, or of several if a quoted cell spans them."""
    ahead: deque[str] = deque()
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        parts, state = [line], _quoting(line, delimiter)
        while state == OPEN and len(parts) <= MAX_CELL_LINES:
            if len(parts) > len(ahead):
                following = next(lines, None)
                if following is None:
                    break
                ahead.append(following)
            parts.append(ahead[len(parts) - 1])
            if '"' in parts[-1]:
                state = _quoting("".join(parts), delimiter)
        row = "".join(parts)
        hidden = len(parts) > 2 and all(one.count(delimiter) == width - 1 for one in parts)
        if state == WHOLE and not hidden and len(cells_of(row, delimiter)) == width:
            for _ in parts[1:]:
                ahead.popleft()
            yield row
        else:
            yield line


def _quoting(text: str, delimiter: str) -> str:
    """Whether all quoted cells of a row are closed."""
    if '"' not in text:
        return WHOLE
    try:
        next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        return OPEN if "unexpected end" in str(error) else FAULTY
    return WHOLE


def cells_of(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return [text]
