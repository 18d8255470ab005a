"""Images in Parquet shards: one row per image, identified by the sha256 of its bytes."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from zreward_core.config import UserError
from zreward_core.schemas import IMAGES

MAX_PIXELS = 64_000_000
"""Larger images are rejected before decoding."""
SHARD_ROWS = 4096
"""Images per shard."""


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of pixels [H, W, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode(content: bytes, name: str = "image") -> np.ndarray:
    """Decode an image to pixels [H, W, 3] uint8, on a white background if it has transparency.

    Raises:
        UserError: the bytes are not an image, or the image has more than ``MAX_PIXELS``.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{name}: {image.width} x {image.height} is too large; shrink it to at most"
                    f" {MAX_PIXELS:,} pixels"
                )
            if not image.has_transparency_data:
                return np.array(image.convert("RGB"))
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not a readable image ({error}); replace or remove it") from None


def image_id(content: bytes) -> str:
    """Identifier of an image: sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def write_images(contents: Iterable[bytes], folder: Path) -> list[str]:
    """Write images as shards; duplicates are stored once.

    Returns:
        The image id of each input, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    seen: set[str] = set()
    rows: list[dict] = []
    num_shards = 0
    for content in contents:
        identifier = image_id(content)
        ids.append(identifier)
        if identifier in seen:
            continue
        seen.add(identifier)
        with Image.open(io.BytesIO(content)) as image:
            rows.append(
                {
                    "image_id": identifier,
                    "bytes": content,
                    "width": image.width,
                    "height": image.height,
                }
            )
        if len(rows) == SHARD_ROWS:
            _write_shard(rows, folder, num_shards)
            rows, num_shards = [], num_shards + 1
    if rows or num_shards == 0:
        _write_shard(rows, folder, num_shards)
    return ids


def _write_shard(rows: list[dict], folder: Path, index: int) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES), folder / f"{index:05d}.parquet")


class ImageStore:
    """Images of one or several shard folders by image id; encoded in memory, decoded on access."""

    def __init__(self, *folders: Path) -> None:
        self._bytes: dict[str, bytes] = {}
        for folder in folders:
            shards = sorted(folder.glob("*.parquet"))
            if not shards:
                raise UserError(f"{folder} has no image shards: run the stage that writes it")
            for shard in shards:
                table = pq.read_table(shard, columns=["image_id", "bytes"])
                self._bytes.update(
                    zip(table["image_id"].to_pylist(), table["bytes"].to_pylist(), strict=True)
                )

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._bytes

    def __len__(self) -> int:
        return len(self._bytes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bytes)

    def content(self, identifier: str) -> bytes:
        """Encoded bytes of an image."""
        return self._bytes[identifier]

    def pixels(self, identifier: str) -> np.ndarray:
        """Pixels [H, W, 3] uint8 of an image."""
        return decode(self._bytes[identifier], identifier)
