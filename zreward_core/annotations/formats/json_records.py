"""JSON (a list or an object of records) and JSON Lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.encodings import detect_encoding, encoding_of
from zreward_core.annotations.formats.records import (
    RAW_LENGTH,
    Records,
    Wanted,
    batches_of,
    header_columns,
    matched,
    parse_json,
    pick,
)
from zreward_core.config import UserError
from zreward_core.json_faults import explain

KEY = "_key"
"""Column of the records' keys if the file is an object of records."""


def read_jsonl(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a file with a JSON object per line; any other line is broken."""
    encoding = encoding_of(path, wanted).name

    def lines() -> Iterator[tuple[int, Any]]:
        with path.open(encoding=encoding, errors="replace") as file:
            for number, line in enumerate(file, start=1):
                yield number, parse_line(line)

    return batches_of(lines(), wanted, "line")


def read_json(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a list of records, an object of records, or a table written by columns.

    The keys of an object of records become the column ``_key``.

    Raises:
        UserError: the file is not JSON, or has no records at the declared path.
    """
    content = load_json(path, wanted)
    if wanted.records is not None:
        content = pick(content, wanted.records)
        if not isinstance(content, list | dict):
            raise UserError(f"{path}: no records at '{wanted.records}'; correct `records`")
    content = _by_columns(content, wanted, path)
    if isinstance(content, dict):
        content = [
            {KEY: key, **one} if isinstance(one, dict) else one for key, one in content.items()
        ]
    return batches_of(enumerate(content, start=1), wanted, "record")


def _by_columns(content: list | dict, wanted: Wanted, path: Path) -> list | dict:
    """The records of a table that is written by columns, or as rows below a header.

    The shapes of pandas' ``to_json``: an object of columns (lists, or objects by row), an object
    with ``columns`` and ``data``, and a list of rows whose first has the names.
    """
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        header = content.get("columns")
        if isinstance(header, list) and all(isinstance(one, list) for one in content["data"]):
            return _rows(header, content["data"], wanted, path)
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, list) and first and all(isinstance(one, str) for one in first):
            return _rows(first, content[1:], wanted, path)
        return content
    tops = {name if name in content else name.split(".")[0] for name in wanted.names}
    if wanted.pattern is not None:
        tops |= {name for name in content if matched(wanted.pattern, name)}
    columns = {name: content[name] for name in sorted(tops) if name in content}
    if not tops or set(columns) < tops:
        return content
    if all(isinstance(one, dict) for one in columns.values()):
        index = dict.fromkeys(key for one in columns.values() for key in one)
        columns = {name: [one.get(key) for key in index] for name, one in columns.items()}
    if not any(isinstance(one, list | dict) for one in columns.values()):
        return [content]  # a single record
    if not all(isinstance(one, list) for one in columns.values()):
        return content
    lengths = {name: len(one) for name, one in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{path}: columns of different lengths ({lengths}); export it again")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _rows(header: list, rows: list, wanted: Wanted, path: Path) -> list:
    """Records of rows; a row without a cell for each name stays a list, which is not a record."""
    header_columns(header, wanted, path)
    return [
        dict(zip(header, row, strict=True))
        if isinstance(row, list) and len(row) == len(header)
        else row
        for row in rows
    ]


def load_json(path: Path, wanted: Wanted | None = None) -> Any:
    """Parse a JSON file that holds a list or an object.

    Args:
        path: the file.
        wanted: gives the encoding, if it is declared.

    Raises:
        UserError: the file is not such JSON.
    """
    found = detect_encoding(path) if wanted is None else encoding_of(path, wanted)
    try:
        text = path.read_bytes().decode(found.name, "replace")
        content = parse_json(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        fault = explain(error, "a file with a record on each line has the format jsonl")
        raise UserError(f"{path}: not valid JSON {fault}") from None
    except DuplicateKey as error:
        raise UserError(
            f"{path}: the key '{error}' occurs twice in one object; keep one of the two"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); export it again") from None
    if not isinstance(content, list | dict):
        raise UserError(f"{path}: neither a list nor an object of records; export it again")
    return content


class DuplicateKey(ValueError):
    """A key that occurs twice in an object; Python would keep the second value."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateKey(next(name for name in names if names.count(name) > 1))
    return found


def parse_line(line: str) -> Any:
    """The record of a line; an empty one for an empty line, the text if it is not JSON."""
    if not line.strip():
        return {}
    if "\ufffd" in line:
        return line[:RAW_LENGTH]
    try:
        return parse_json(line, object_pairs_hook=_distinct)
    except ValueError:
        return line.rstrip("\n")[:RAW_LENGTH]
