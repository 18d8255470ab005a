"""Merged cells of a sheet: only the first cell of a range has its value in the file."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward_core.config import UserError


@dataclass(frozen=True)
class Merged:
    """Merged cells of one column, below the header."""

    name: str
    """The range, such as A2:A4."""
    first: int
    last: int
    """Rows."""


def header_cells(rows: list[tuple[Any, ...]], ranges: list[str]) -> list[Any]:
    """The cells of the last row, with the values of cells merged with the rows above.

    Args:
        rows: the rows up to the header.
        ranges: merged ranges of the sheet.
    """
    from openpyxl.utils import range_boundaries  # takes 0.3 s; needed by this format only

    cells = list(rows[-1])
    for text in ranges:
        left, top, right, bottom = range_boundaries(text)
        if left == right and top < len(rows) <= bottom and left <= len(rows[top - 1]):
            cells += [None] * (left - len(cells))
            cells[left - 1] = rows[top - 1][left - 1]
    return cells


def merged_columns(
    ranges: list[str], places: dict[str, int], header_row: int, path: Path
) -> dict[str, list[Merged]]:
    """Merged cells by column, in the order of their rows; a title over all columns is left out.

    Args:
        ranges: merged ranges of the sheet.
        places: index of each column that is read.
        header_row: ranges that begin above or in it are left out.
        path: for messages.

    Raises:
        UserError: a range contains several columns, or its value is in a column that is not read.
    """
    from openpyxl.utils import range_boundaries

    found: dict[str, list[Merged]] = {}
    for text in sorted(ranges, key=lambda one: range_boundaries(one)[::-1]):
        left, top, right, bottom = range_boundaries(text)
        inside = [name for name, place in places.items() if left <= place + 1 <= right]
        title = 1 < len(inside) == len(places)
        if top <= header_row or not inside or title:
            continue
        if len(inside) > 1 or places[inside[0]] + 1 != left:
            raise UserError(
                f"{path}: the merged cells {text} reach over several columns, among them "
                f"{', '.join(inside)}, so it is unclear to which their value belongs; unmerge them "
                "and fill in each cell"
            )
        if top < bottom:
            found.setdefault(inside[0], []).append(Merged(text, top, bottom))
    return found


def repeated(
    rows: Iterator[tuple[int, dict[str, Any]]],
    merged: dict[str, list[Merged]],
    judged: Collection[str],
    path: Path,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with the value of merged cells repeated; a row without values of its own stays empty.

    Args:
        rows: number and cells of each row.
        merged: merged cells by column.
        judged: columns with judgements, which are not repeated.
        path: for messages.

    Raises:
        UserError: a judgement is merged over several rows with values.
    """
    waiting = {name: deque(ranges) for name, ranges in merged.items()}
    values: dict[str, Any] = {}
    for number, cells in rows:
        used = any(cell is not None for cell in cells.values())
        for name, ranges in waiting.items():
            while ranges and ranges[0].last < number:
                ranges.popleft()
            if not ranges or number < ranges[0].first:
                continue
            if number == ranges[0].first:
                values[name] = cells[name]
            elif used and name in judged:
                raise UserError(
                    f"{path}: the cells {ranges[0].name} of the column '{name}' are merged, so it "
                    "is unclear whether the judgement counts for each of these rows; unmerge them "
                    "and fill in each cell"
                )
            elif used:
                cells[name] = values[name]
        yield number, cells
