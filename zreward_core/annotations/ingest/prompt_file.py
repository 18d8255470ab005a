"""Prompts in a second file of a study."""

import csv
from pathlib import Path

from zreward_core.annotations.formats.encodings import detect_encoding
from zreward_core.annotations.ingest.settings import DROPS, Prompts
from zreward_core.config import UserError


def read_prompts(source_file: Path, settings: Prompts) -> dict[str, str]:
    """Read the prompts by key.

    Args:
        source_file: a file of the source; relative paths start at its folder.
        settings: the file and its columns.

    Raises:
        UserError: the file or a column is missing, or a key has two prompts.
    """
    path = source_file.parent / settings.path
    if not path.is_file() and Path(settings.path).is_relative_to(DROPS):
        path = Path(settings.path)
    if not path.is_file():
        raise UserError(
            f"{settings.path}: not found beside {source_file} or below {DROPS}; correct "
            "`prompts.path` of the source"
        )
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding=detect_encoding(path).name, newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter)
        missing = {settings.key, settings.prompt} - set(rows.fieldnames or [])
        if missing:
            raise UserError(f"{path}: no column {', '.join(sorted(missing))}; correct `prompts`")
        found: dict[str, str] = {}
        for number, row in enumerate(rows, start=2):
            key, prompt = (row[settings.key] or "").strip(), row[settings.prompt] or ""
            if found.setdefault(key, prompt) != prompt:
                raise UserError(f"{path}#row {number}: '{key}' has two prompts; remove one")
    return found
