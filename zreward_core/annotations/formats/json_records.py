"""JSON (a list or an object of records) and JSON Lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.encodings import detect_encoding
from zreward_core.annotations.formats.records import RAW_LENGTH, Records, Wanted, batches_of, pick
from zreward_core.config import UserError

KEY = "_key"
"""Column of the records' keys if the file is an object of records."""


def read_jsonl(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a file with a JSON object per line; any other line is broken."""
    encoding = detect_encoding(path, wanted.encoding).name

    def lines() -> Iterator[tuple[int, Any]]:
        with path.open(encoding=encoding, errors="replace") as file:
            for number, line in enumerate(file, start=1):
                yield number, _parse(line)

    return batches_of(lines(), wanted, "line")


def read_json(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a list of records, or an object of records (its keys become the column ``_key``).

    Raises:
        UserError: the file is not JSON, or has neither at the declared place.
    """
    content = load_json(path, wanted.encoding)
    if wanted.records is not None:
        content = pick(content, wanted.records)
        if not isinstance(content, list | dict):
            raise UserError(f"{path}: no records at '{wanted.records}'; correct `records`")
    if isinstance(content, dict):
        content = [
            {KEY: key, **one} if isinstance(one, dict) else one for key, one in content.items()
        ]
    return batches_of(enumerate(content, start=1), wanted, "record")


def load_json(path: Path, encoding: str | None = None) -> Any:
    """Parse a JSON file that holds a list or an object.

    Raises:
        UserError: the file is not such JSON.
    """
    found = detect_encoding(path, encoding)
    try:
        content = json.loads(path.read_bytes().decode(found.name, "replace"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON at line {error.lineno} column {error.colno} ({error.msg}); "
            "a file with a record on each line has the format jsonl"
        ) from None
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); export it again") from None
    if not isinstance(content, list | dict):
        raise UserError(f"{path}: neither a list nor an object of records; export it again")
    return content


def _parse(line: str) -> Any:
    """The record of a line; an empty one for an empty line, the text if it is not JSON."""
    if not line.strip():
        return {}
    if "\ufffd" in line:
        return line[:RAW_LENGTH]
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.rstrip("\n")[:RAW_LENGTH]
