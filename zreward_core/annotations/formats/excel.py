"""Excel workbooks (.xlsx), read by openpyxl; formulas are read as their stored values."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.merged_cells import (
    Merged,
    header_cells,
    merged_columns,
    repeated,
)
from zreward_core.annotations.formats.records import (
    BLANK,
    Records,
    Wanted,
    batches_of,
    header_columns,
    inside,
)
from zreward_core.annotations.formats.sheet_scan import SheetScan, scan_sheet
from zreward_core.config import UserError

EXACT_IN_EXCEL = 10**15
"""Excel rounds numbers to 15 digits."""


def read_excel(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a sheet of a workbook; rows are numbered as in the sheet.

    Merged cells have their value in each row, except judgements (``merged_cells``).

    Raises:
        UserError: the file is not a workbook, the sheet or a column is missing, a column occurs
            twice, formulas have no stored values, or it is unclear what merged cells mean.
    """
    book = _load(path)
    names = [sheet.title for sheet in book.worksheets]
    if not names:
        raise UserError(f"{path}: the workbook has no sheet with cells; export the table again")
    shown = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
    wish = wanted.sheet if wanted.sheet is not None else (shown or names)[0]
    name = names[wish - 1] if isinstance(wish, int) and 0 < wish <= len(names) else str(wish)
    if name not in names:
        raise UserError(f"{path}: no sheet '{wish}' (it has {', '.join(names)}); correct `sheet`")
    sheet = book[name]
    sheet.reset_dimensions()  # some programs store wrong ones
    with sheet._get_source() as file:
        scan = scan_sheet(file, wanted.header_row, path, _percent_styles(book))
    rows = sheet.iter_rows(values_only=True)
    above = list(itertools.islice(rows, wanted.header_row))
    found = header_cells(above, scan.merged) if len(above) == wanted.header_row else []
    header = ["" if cell is None else str(cell).strip(BLANK) for cell in found]
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
    _check_formulas(scan, places, path)
    merged = merged_columns(scan.merged, places, wanted.header_row, path)
    judged = {
        top for name, top in tops.items() if name in wanted.judged or name not in wanted.names
    }
    filled = repeated(numbered, merged, judged, path)
    wanted.notes.extend(_notes({name: one for name, one in merged.items() if name not in judged}))
    wanted.notes.extend(_unseen(scan, places))
    if wanted.sheet is None:
        wanted.notes.extend(_other_sheets(book, name, wanted, path))
    for records in batches_of(filled, Wanted(tuple(needed)), "row"):
        columns = {
            name: inside(records.columns[top], name[len(top) + 1 :]) for name, top in tops.items()
        }
        yield replace(records, columns=columns)
    book.close()


def _load(path: Path) -> Any:
    """Open a workbook; its chart sheets stay empty.

    Raises:
        UserError: the file is not a workbook, or one that openpyxl cannot read.
    """
    from openpyxl.chartsheet import Chartsheet  # takes 0.3 s; needed by this format only
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.utils.exceptions import InvalidFileException

    def add_chart_sheet(sheet: Any, rel: Any) -> None:
        reader.wb._add_sheet(Chartsheet(parent=reader.wb, title=sheet.name))

    try:
        reader = ExcelReader(path, read_only=True, data_only=True)
        reader.read_chartsheet = add_chart_sheet  # openpyxl fails on one without a chart
        reader.read()
    except (InvalidFileException, zipfile.BadZipFile, LookupError, OSError) as error:
        raise UserError(
            f"{path}: not a readable Excel workbook ({error}); save it again as .xlsx"
        ) from None
    except (ValueError, TypeError, AttributeError, SyntaxError) as error:  # parts of it are invalid
        raise UserError(
            f"{path}: the workbook is not valid ({str(error).splitlines()[0]}); open it in Excel "
            "or LibreOffice and save it again as .xlsx"
        ) from None
    return reader.wb


def _check_formulas(scan: SheetScan, places: dict[str, int], path: Path) -> None:
    """Reject formulas without stored values, which would count as empty cells.

    Raises:
        UserError: a column has some.
    """
    unsaved = {name: scan.unsaved.get(place + 1, []) for name, place in places.items()}
    names = [name for name, cells in unsaved.items() if cells]
    if names:
        raise UserError(
            f"{path}: {sum(map(len, unsaved.values()))} formulas in the columns {', '.join(names)} "
            f"have no stored value (the first is in {unsaved[names[0]][0]}); open the file in "
            "Excel and save it"
        )


def _notes(merged: dict[str, list[Merged]]) -> list[str]:
    ranges = [one.name for column in merged.values() for one in column]
    if not ranges:
        return []
    return [
        f"{len(ranges)} merged ranges of the columns {', '.join(merged)} (such as {ranges[0]}): "
        "their value counts for each of their rows"
    ]


def _unseen(scan: SheetScan, places: dict[str, int]) -> list[str]:
    """What a reader of the sheet in Excel sees differently: hidden rows, percentages."""
    notes = []
    if scan.hidden:
        notes.append(
            f"{len(scan.hidden)} hidden rows (such as row {scan.hidden[0]}) are read like the "
            "others: delete them if a filter hides rows that should not count"
        )
    percents = {name: scan.percents.get(place + 1, []) for name, place in places.items()}
    notes += [
        f"{len(cells)} cells of the column {name} (such as {cells[0]}) are percentages, which are "
        "read as stored: 80% as 0.8. The `scale` of a score in per cent has min: 0, max: 1"
        for name, cells in percents.items()
        if cells
    ]
    return notes


def _other_sheets(book: Any, name: str, wanted: Wanted, path: Path) -> list[str]:
    """Names the other sheets that have the wanted columns, such as one per annotator."""
    alike = []
    for sheet in book.worksheets:
        if sheet.title == name:
            continue
        sheet.reset_dimensions()
        above = list(sheet.iter_rows(values_only=True, max_row=wanted.header_row))
        last = above[-1] if len(above) == wanted.header_row else ()
        try:
            header_columns(
                [str(cell).strip(BLANK) for cell in last if cell is not None], wanted, path
            )
        except UserError:
            continue
        alike.append(sheet.title)
    if not alike:
        return []
    return [
        f"only the sheet {name} is read; {', '.join(alike)} "
        f"{'has' if len(alike) == 1 else 'have'} the same columns: add a source with `sheet` for "
        "each, or choose one by `sheet`"
    ]


def _percent_styles(book: Any) -> frozenset[str]:
    """Numbers of the cell styles that show percentages."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS, BUILTIN_FORMATS_MAX_SIZE

    own = dict(enumerate(book._number_formats, start=BUILTIN_FORMATS_MAX_SIZE))
    formats = {**BUILTIN_FORMATS, **own}
    return frozenset(
        str(number)
        for number, style in enumerate(book._cell_styles)
        if "%" in formats.get(style.numFmtId, "")
    )


def _cell(row: tuple[Any, ...], place: int) -> Any:
    """The value of a cell; rows are as long as their last filled cell."""
    value = row[place] if place < len(row) else None
    if isinstance(value, int | float) and abs(value) >= EXACT_IN_EXCEL:
        return f"{value:.14E}"  # as Excel shows it; identifiers of this form are rejected
    if isinstance(value, timedelta):
        return str(value)
    return value.isoformat() if isinstance(value, datetime | date | time) else value
