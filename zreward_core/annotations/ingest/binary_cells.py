"""Cells of bytes: images become references that contain them, all others must be text.

Shapes: N records.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import Records, is_text, parsed
from zreward_core.annotations.ingest.mapping import cells_in
from zreward_core.annotations.ingest.settings import Source

IMAGE_KEYS = {"bytes", "path"}
"""Fields of an image as Hugging Face's ``datasets`` stores it."""


def without_bytes(records: Records, source: Source) -> Records:
    """Write images as references (``references.embedded``), and other bytes as text.

    A record with bytes that are neither is malformed.
    """
    asked = source.columns
    cells = cells_in([asked.image, asked.image_a, asked.image_b])
    cells += cells_in(asked.ranking.images) if asked.ranking else []
    images = {cell.column for cell in cells}
    columns = dict(records.columns)
    faults: list[str | None] = list(records.faults or [None] * len(records))
    for name, column in records.columns.items():
        if name in images:
            columns[name] = image_references(column)
        elif pa.types.is_binary(column.type):
            found = [_decoded(value) for value in column.to_pylist()]
            columns[name] = pa.array([text for text, _ in found], pa.string())
            faults = [
                fault or (None if sound else "malformed_record")
                for fault, (_, sound) in zip(faults, found, strict=True)
            ]
    return replace(records, columns=columns, faults=faults if any(faults) else records.faults)


def image_references(column: pa.Array) -> pa.Array:
    """References to images, from a column of texts, bytes or ``{bytes, path}``."""
    kind = column.type
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if pa.types.is_binary(kind) or fields & IMAGE_KEYS:
        return pa.array([_reference(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_dictionary(kind) and is_text(kind):
        dictionary = image_references(column.dictionary)
        return pa.DictionaryArray.from_arrays(column.indices, dictionary)
    if pa.types.is_string(kind) and pc.any(pc.starts_with(column, "{")).as_py():
        return pa.array([_reference(parsed(text)) for text in column.to_pylist()], pa.string())
    return column


def _reference(value: Any) -> str | None:
    if isinstance(value, Mapping) and value.keys() & IMAGE_KEYS:
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        text, sound = _decoded(value)
        image = b"\0" in value or not sound
        return f"data:;base64,{base64.b64encode(value).decode()}" if image else text
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _decoded(value: bytes | None) -> tuple[str | None, bool]:
    """The text of UTF-8, and whether the bytes are UTF-8."""
    try:
        return None if value is None else value.decode(), True
    except UnicodeDecodeError:
        return None, False
