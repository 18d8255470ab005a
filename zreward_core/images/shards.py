"""Images in Parquet shards: one row per image, read one row group at a time.

A shard holds the bytes of its images, or names the files outside that have them. Hugging Face
`datasets` opens a folder of shards.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.config import UserError
from zreward_core.images.decoding import decode, image_id, shown_size
from zreward_core.schemas import IMAGES, OUTSIDE_IMAGES, how_to_make

SHARD_ROWS = 4096
"""Images per shard, at most."""
SHARD_BYTES = 2**29
"""A shard ends at the first row group with which its images exceed this size."""
GROUP_BYTES = 2**22
"""A row group, which is read whole for each of its images, ends where they exceed this size."""
HELD_BYTES = 2**26
"""Size of the row groups that a store keeps in memory."""
OPEN_SHARDS = 16
"""Shards that a store keeps open."""
AHEAD, NUM_THREADS = 16, 2
"""Images that are decoded before they are taken, where several are taken in order."""


@dataclass(frozen=True)
class Outside:
    """An image that stays where it is: a file, or a part of one (a member of a tar archive)."""

    content: bytes
    path: Path
    """Relative to the project, or absolute."""
    offset: int = 0
    """First byte of the image in the file."""


def write_images(
    contents: Iterable[bytes | Outside], folder: Path, outside: bool = False
) -> list[str]:
    """Write images as shards; duplicates are stored once.

    Args:
        contents: images, each in memory only until its row group is written.
        outside: whether some may be ``Outside``; the shards then have columns for their places.

    Returns:
        The image id of each input, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    seen: set[str] = set()
    shards = _Shards(folder, OUTSIDE_IMAGES if outside else IMAGES)
    for given in contents:
        place = given if isinstance(given, Outside) else None
        content = given.content if isinstance(given, Outside) else given
        identifier = image_id(content)
        ids.append(identifier)
        if identifier in seen:
            continue
        seen.add(identifier)
        width, height = shown_size(content)
        row = {"image_id": identifier, "bytes": content, "width": width, "height": height}
        if place is not None:
            row |= {"path": str(place.path), "offset": place.offset, "length": len(content)}
            row["bytes"] = None
        shards.add(row)
    shards.close()
    return ids


class _Shards:
    """The shards of a folder while they are written."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._num_shards = 0
        self._shard: pq.ParquetWriter | None = None
        self._shard_rows = self._shard_bytes = 0
        self._group: list[dict] = []
        self._group_bytes = 0

    def add(self, row: dict) -> None:
        self._group.append(row)
        self._group_bytes += len(row["bytes"] or b"")
        full = self._shard_rows + len(self._group) >= SHARD_ROWS
        if full or self._group_bytes >= GROUP_BYTES:
            self._end_group()
        if full or self._shard_bytes >= SHARD_BYTES:
            self._end_shard()

    def close(self) -> None:
        if self._group or (self._shard is None and self._num_shards == 0):
            self._end_group()
        self._end_shard()

    def _end_group(self) -> None:
        if self._shard is None:
            path = self._folder / f"{self._num_shards:05d}.parquet"
            self._shard = pq.ParquetWriter(path, self._schema)
            self._num_shards += 1
        self._shard.write_table(pa.Table.from_pylist(self._group, schema=self._schema))
        self._shard_rows += len(self._group)
        self._shard_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0

    def _end_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
        self._shard, self._shard_rows, self._shard_bytes = None, 0, 0


class ImageStore:
    """An index of the images in one or several shard folders: image id to shard and row group.

    Images are read when they are asked for, from any thread; a few row groups are kept.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._position: dict[str, int] = {}
        """Image id to its row, counted over all shards."""
        self._groups: list[tuple[Path, int]] = []
        self._starts: list[int] = []
        """First row of each row group."""
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()
        self._open = lru_cache(OPEN_SHARDS)(partial(pq.ParquetFile, pre_buffer=False))
        """A shard; with ``pre_buffer`` it would keep the encoded row groups that were read."""
        num_rows = 0
        for folder in folders:
            shards = sorted(folder.glob("*.parquet"))
            if not shards:
                raise UserError(f"{folder} has no image shards: {how_to_make(folder)}")
            for path in shards:
                with pq.ParquetFile(path) as shard:
                    if "image_id" not in shard.schema_arrow.names:
                        raise UserError(f"{path} is not an image shard: move it out of the folder")
                    ids = shard.read(columns=["image_id"])["image_id"].to_pylist()
                    rows = range(num_rows, num_rows + len(ids))
                    self._position.update(zip(ids, rows, strict=True))
                    for group in range(shard.num_row_groups):
                        self._groups.append((path, group))
                        self._starts.append(num_rows)
                        num_rows += shard.metadata.row_group(group).num_rows

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._position

    def __len__(self) -> int:
        return len(self._position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._position)

    def content(self, identifier: str) -> bytes:
        """Encoded bytes of an image.

        Raises:
            UserError: no shard has the image, or its bytes are no longer those of the id.
        """
        if identifier not in self._position:
            told = " and ".join(str(folder) for folder in self._folders)
            raise UserError(f"{told} lack the image {identifier}: run the stages that write them")
        position = self._position[identifier]
        index = bisect_right(self._starts, position) - 1
        (row,) = self._row_group(index).slice(position - self._starts[index], 1).to_pylist()
        content, place = row["bytes"], f"{self._groups[index][0]}"
        if isinstance(content, dict):  # an image column of `datasets`
            content, row["path"] = content["bytes"], content["path"]
        if content is None:
            place = row["path"]
            content = read_outside(Path(place), row.get("offset") or 0, row.get("length"))
        if image_id(content) != identifier:
            raise UserError(
                f"the image {identifier} is no longer the one in {place}: restore the file, or run"
                " the stage that lists it again"
            )
        return content

    def pixels(self, identifier: str) -> np.ndarray:
        """Pixels [H, W, 3] uint8 of an image; errors as for ``content``."""
        return decode(self.content(identifier), identifier)

    def all_pixels(self, identifiers: Iterable[str]) -> Sequence[np.ndarray]:
        """Pixels of several images, each decoded when it is taken or a few before."""
        return _Decoded(self, list(identifiers))

    def _row_group(self, index: int) -> pa.Table:
        with self._lock:
            if index not in self._held:
                path, group = self._groups[index]
                shard = self._open(path)
                wanted = [n for n in shard.schema_arrow.names if n not in ("width", "height")]
                self._held[index] = shard.read_row_group(group, columns=wanted, use_threads=False)
                while len(self._held) > 1 and self._held_bytes() > HELD_BYTES:
                    self._held.popitem(last=False)
            self._held.move_to_end(index)
            return self._held[index]

    def _held_bytes(self) -> int:
        return sum(table.nbytes for table in self._held.values())


class _Decoded(Sequence[np.ndarray]):
    """Images of a store as pixels."""

    def __init__(self, store: ImageStore, identifiers: list[str]) -> None:
        self._store = store
        self._identifiers = identifiers

    def __len__(self) -> int:
        return len(self._identifiers)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Decoded(self._store, self._identifiers[index])
        return self._store.pixels(self._identifiers[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        ahead: deque[Future[np.ndarray]] = deque()
        threads = ThreadPoolExecutor(NUM_THREADS, "images")
        try:
            for identifier in self._identifiers:
                ahead.append(threads.submit(self._store.pixels, identifier))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def read_outside(path: Path, offset: int, length: int | None) -> bytes:
    """A part of a file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)
    except OSError as error:
        raise UserError(
            f"the image file {path} cannot be read ({error.strerror}): restore it, or run"
            " candidates again without it"
        ) from None
