"""The images of a set: files below its folder, or cells of its Parquet files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from zreward_core.annotations.ingest.image_index import FileIndex
from zreward_core.annotations.ingest.references import readings
from zreward_core.commands.benchmark.tables import ImageCell, SetImage
from zreward_core.config import UserError, writable
from zreward_core.images import decode, read_image


class ImageFiles:
    """Finds and reads the images of a set.

    A path of the annotation file and a file match if one is the end of the other (``FileIndex``).
    """

    def __init__(self, folder: Path, images: Sequence[SetImage]) -> None:
        """List the files.

        Raises:
            UserError: two files match one image.
        """
        in_files = [image for image in images if image.cell is None]
        index = FileIndex(folder) if in_files else None
        self._paths = {image: _find(index, image) for image in in_files if index is not None}
        self._cells = _Cells()
        self.missing = [image for image, path in self._paths.items() if path is None]
        """Images without a file."""

    def pixels(self, image: SetImage) -> np.ndarray:
        """Pixels [H, W, 3] uint8 of an image that is not missing.

        Raises:
            UserError: it cannot be read, or is not an image; names the annotation and the file.
        """
        try:
            if image.cell is not None:
                return decode(self._cells.content(image.cell, image.place), image.name)
            path = self._paths[image]
            assert path is not None
            return read_image(path)[1]
        except UserError as error:
            message = str(error).removeprefix(f"{image.place}: ")
            raise UserError(f"{image.place}: {message}") from None

    def size(self, image: SetImage) -> int:
        """Size of an encoded image, in bytes."""
        if image.cell is not None:
            return len(self._cells.content(image.cell, image.place))
        path = self._paths[image]
        assert path is not None
        return path.stat().st_size


def _find(index: FileIndex, image: SetImage) -> Path | None:
    for name in image.names:
        for reading in readings(name):
            found = [file.path for file in index.match(reading)[0] if not file.is_folder]
            if len(found) > 1:
                paths = " and ".join(writable(str(path)) for path in found[:2])
                raise UserError(
                    f"{image.place}: '{name}' is {paths}; keep one, or pass the folder above it"
                )
            if found:
                return found[0]
    return None


class _Cells:
    """Images in Parquet files; the row group that was read last is kept."""

    def __init__(self) -> None:
        self._file: tuple[Path, pq.ParquetFile] | None = None
        self._group = -1
        self._start = 0
        self._held: dict[str, list[Any]] = {}

    def content(self, cell: ImageCell, place: str) -> bytes:
        if self._file is None or self._file[0] != cell.file:
            self._file, self._group, self._held = (cell.file, pq.ParquetFile(cell.file)), -1, {}
        file = self._file[1]
        number = len(next(iter(self._held.values()), ()))
        if not self._start <= cell.row < self._start + number or self._group < 0:
            self._move(file, cell.row)
        if cell.column not in self._held:
            table = file.read_row_group(self._group, columns=[cell.column])
            self._held[cell.column] = table[cell.column].to_pylist()
        value = self._held[cell.column][cell.row - self._start]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise UserError(f"{place}: '{cell.column}' has no image bytes; download it again")
        return content

    def _move(self, file: pq.ParquetFile, row: int) -> None:
        """Make the row group with a row the current one."""
        self._held, self._start = {}, 0
        for group in range(file.num_row_groups):
            number = file.metadata.row_group(group).num_rows
            if row < self._start + number:
                self._group = group
                return
            self._start += number
        raise AssertionError(f"row {row} is not in the file")
