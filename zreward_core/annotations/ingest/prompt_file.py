"""Prompts in a second file of a study."""

from pathlib import Path

import numpy as np

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.formats.records import Wanted
from zreward_core.annotations.ingest.column_settings import Cell
from zreward_core.annotations.ingest.rounded_identifiers import are_rounded
from zreward_core.annotations.ingest.settings import DROPS, Prompts
from zreward_core.annotations.ingest.values import identifiers, texts
from zreward_core.config import UserError


def read_prompts(source_file: Path, settings: Prompts, notes: list[str]) -> dict[str, str]:
    """Read the prompts by key.

    Args:
        source_file: a file of the source; relative paths start at its folder.
        settings: the file and its columns.
        notes: what was assumed about the file is added here.

    Raises:
        UserError: the file or a column is missing, a row is broken, or a key has two prompts.
    """
    path = source_file.parent / settings.path
    if not path.is_file() and Path(settings.path).is_relative_to(DROPS):
        path = Path(settings.path)
    if not path.is_file():
        raise UserError(
            f"{settings.path}: not found next to {source_file} or below {DROPS}; correct "
            "`prompts.path` of the source"
        )
    key_cell, prompt_cell = Cell(column=settings.key), Cell(column=settings.prompt)
    read = FORMATS["tsv" if path.suffix.lower() == ".tsv" else "csv"].read
    found: dict[str, str] = {}
    wanted = Wanted((settings.key, settings.prompt))
    for records in read(path, wanted):
        for place, _ in records.broken:
            raise UserError(f"{path}#{place}: not a row with a cell for each column; correct it")
        rounded = np.flatnonzero(are_rounded(records.columns[settings.key]))
        if len(rounded):
            raise UserError(
                f"{path}#{records.refs[int(rounded[0])]}: the key '{settings.key}' was stored as a "
                "number and rounded; store the column as text and export the file again"
            )
        keys = identifiers(records.columns[settings.key], key_cell).take().to_pylist()
        prompts = texts(records.columns[settings.prompt], prompt_cell, trim=False).take()
        places = records.refs.to_pylist()
        for key, prompt, place in zip(keys, prompts.to_pylist(), places, strict=True):
            if key is not None and found.setdefault(key, prompt or "") != (prompt or ""):
                raise UserError(f"{path}#{place}: '{key}' has two prompts; remove one")
    notes += [f"{path}: {note}" for note in wanted.notes]
    return found
