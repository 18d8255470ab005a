"""Excel workbooks (.xlsx), read by openpyxl; formulas are read as their stored values."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.records import (
    Records,
    Wanted,
    batches_of,
    header_columns,
    inside,
)
from zreward_core.config import UserError


def read_excel(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a sheet of a workbook; rows are numbered as in the sheet.

    Raises:
        UserError: the file is not a workbook, the sheet or a column is missing, or a column occurs
            twice.
    """
    import openpyxl  # takes 0.3 s; needed by this format only
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(
            f"{path}: not a readable Excel workbook ({error}); save it again as .xlsx"
        ) from None
    names = book.sheetnames
    wish = wanted.sheet if wanted.sheet is not None else 1
    name = names[wish - 1] if isinstance(wish, int) and 0 < wish <= len(names) else str(wish)
    if name not in names:
        raise UserError(f"{path}: no sheet '{wish}' (it has {', '.join(names)}); correct `sheet`")
    sheet = book[name]
    sheet.reset_dimensions()  # some programs store wrong ones
    rows = itertools.islice(sheet.iter_rows(values_only=True), wanted.header_row - 1, None)
    header = ["" if cell is None else str(cell).strip() for cell in next(rows, ())]
    if not any(header):
        raise UserError(
            f"{path}: row {wanted.header_row} of the sheet '{name}' has no column names; "
            "correct `header_row` or `sheet`"
        )
    tops = header_columns(header, wanted, path)
    needed = dict.fromkeys(tops.values())
    places = {name: header.index(name) for name in needed}
    numbered = (
        (number, {name: _cell(row, place) for name, place in places.items()})
        for number, row in enumerate(rows, start=wanted.header_row + 1)
        if not wanted.skip_blank or any(str(cell or "").strip() for cell in row)
    )
    for records in batches_of(numbered, Wanted(tuple(needed)), "row"):
        columns = {
            name: inside(records.columns[top], name[len(top) + 1 :]) for name, top in tops.items()
        }
        yield replace(records, columns=columns)
    book.close()


def _cell(row: tuple[Any, ...], place: int) -> Any:
    """The value of a cell; rows are as long as their last filled cell."""
    value = row[place] if place < len(row) else None
    return value.isoformat() if isinstance(value, datetime | date | time) else value
