"""One pass over the XML of a sheet for what openpyxl's read-only mode leaves out."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat

from zreward_core.config import UserError


@dataclass
class SheetScan:
    """Merged cells, formulas without a stored value, hidden rows and percentages."""

    merged: list[str] = field(default_factory=list)
    """Ranges, such as A2:A4."""
    unsaved: dict[int, list[str]] = field(default_factory=dict)
    """Number of a column to the cells below the header with formulas that were never calculated."""
    hidden: list[int] = field(default_factory=list)
    """Rows with cells below the header that are hidden, such as those that a filter leaves out."""
    percents: dict[int, list[str]] = field(default_factory=dict)
    """Number of a column to its cells below the header that are shown as percentages."""


def scan_sheet(
    file: IO[bytes], header_row: int, path: Path, percent_styles: frozenset[str] = frozenset()
) -> SheetScan:
    """Scan a sheet.

    Programs that cannot calculate formulas store them without values; a formula whose value is an
    empty text has the type "str".

    Args:
        file: the XML of the sheet.
        header_row: formulas up to this row are left out.
        path: for messages.
        percent_styles: styles (the attribute ``s`` of a cell) of percentages.

    Raises:
        UserError: the XML is damaged.
    """
    from openpyxl.utils.cell import coordinate_to_tuple  # takes 0.3 s; needed by this format only

    found = SheetScan()
    cell: dict[str, str] = {}
    row_number, row_hidden = 0, False
    formula: dict[str, str] | None = None

    def end_of_cell() -> None:
        nonlocal formula
        parser.CharacterDataHandler = None
        if formula is not None and formula.get("t") != "str" and "r" in formula:
            row, column = coordinate_to_tuple(formula["r"])
            if row > header_row:
                found.unsaved.setdefault(column, []).append(formula["r"])
        formula = None

    def text(content: str) -> None:
        nonlocal formula
        if content.strip():
            formula = None

    def filled() -> None:
        nonlocal row_hidden
        if row_hidden:
            found.hidden.append(row_number)
            row_hidden = False
        if cell.get("s") in percent_styles and row_number > header_row and "r" in cell:
            _, column = coordinate_to_tuple(cell["r"])
            found.percents.setdefault(column, []).append(cell["r"])

    def start(name: str, values: dict[str, str]) -> None:
        nonlocal cell, formula, row_number, row_hidden
        name = name.rpartition(":")[2]
        if name == "f":
            formula = cell
        elif name == "v":
            parser.CharacterDataHandler = None if formula is None else text
            filled()
        elif formula is not None:
            end_of_cell()
        if name == "c":
            cell = values
        elif name == "is":  # text inside the cell
            filled()
        elif name == "row":
            row_number = int(values.get("r", row_number + 1))
            row_hidden = values.get("hidden") in ("1", "true") and row_number > header_row
        elif name == "mergeCell":
            found.merged.append(values["ref"])

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.ParseFile(file)
    except (expat.ExpatError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: a damaged workbook ({error}); save it again as .xlsx") from None
    end_of_cell()
    return found
