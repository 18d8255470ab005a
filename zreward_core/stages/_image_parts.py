"""The user's images, checked and kept in parts of a checkpoint until all are read. Not a stage.

A killed run goes on after the last part, so images are decoded and checked once.
"""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.images import Outside, read_outside
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.schemas import digest
from zreward_core.stages._image_sources import Checked, Source, checked_rows

PART_ROWS, PART_BYTES = 4096, 2**23
"""Images in a part, at most, and the size with which it ends: several copies are in memory."""
PARTS = pa.schema(
    [
        ("bytes", pa.binary()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("prompt", pa.string()),
        ("fault", pa.string()),
    ]
)
"""Columns of a part: an image, or its place, with its prompt; or why they cannot be used."""


def kept_rows(checkpoint: Checkpoint, source: Source) -> Iterator[Checked]:
    """``checked_rows`` of a source, by parts of which those in the checkpoint are not read again.

    Parts are those of a state of the source's files. An image that a table names outside the
    source's folder is not among these, and taken as it was.

    Raises:
        UserError: the source, or an image that stays in place, cannot be read.
    """
    name = f"given{digest(source.model_dump_json(), *_files(source.path))[:16]}_"
    rows: Iterator[Checked] | None = None
    first = 0
    for index in count():
        part = f"{name}{index:06d}"
        if checkpoint.has_table(part):
            rows = None
            found = pq.read_table(checkpoint.table_path(part)).to_pylist()
            yield from map(_checked, found)
            number = len(found)
        else:
            rows = rows or checked_rows(source, first)
            read = list(_next_part(rows))
            kept = pd.DataFrame(map(_row, read), columns=PARTS.names, dtype=object)
            checkpoint.save_table(part, kept, PARTS)
            yield from read
            number = len(read)
        first += number
        if not number:  # the end of the source
            return


def _next_part(rows: Iterator[Checked]) -> Iterator[Checked]:
    """The next rows, until their images have ``PART_BYTES``."""
    size = 0
    for found in islice(rows, PART_ROWS):
        yield found
        if isinstance(found, tuple):
            image = found[0]
            size += len(image.content if isinstance(image, Outside) else image)
        if size >= PART_BYTES:
            return


def _files(path: Path) -> Iterator[str]:
    """Name, size and time of the files of a source."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            state = file.stat()
            yield f"{file} {state.st_size} {state.st_mtime_ns}"


def _row(found: Checked) -> tuple[Any, ...]:
    if isinstance(found, str):
        return None, None, None, None, None, found
    image, prompt = found
    if isinstance(image, Outside):
        return None, str(image.path), image.offset, len(image.content), prompt, None
    return image, None, None, None, prompt, None


def _checked(row: dict[str, Any]) -> Checked:
    if row["fault"] is not None:
        return row["fault"]
    if row["path"] is None:
        return row["bytes"], row["prompt"]
    path = Path(row["path"])
    content = read_outside(path, row["offset"], row["length"])
    return Outside(content, path, row["offset"]), row["prompt"]
