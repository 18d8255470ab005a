"""Image shards and bounded decoding."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zreward_core import images as images
from zreward_core.config import UserError
from zreward_core.images import ImageStore, decode, encode_png, image_id, write_images


def solid(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, dtype=np.uint8)


def test_shards_store_a_image_once_and_keep_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SHARD_ROWS", 2)
    contents = [encode_png(solid(value)) for value in (1, 2, 1, 3)]
    ids = write_images(contents, tmp_path)
    assert ids == [image_id(content) for content in contents]
    store = ImageStore(tmp_path)
    assert len(store) == 3 and len(list(tmp_path.iterdir())) == 2
    assert (store.pixels(ids[3]) == solid(3)).all()


def test_no_image_makes_an_empty_shard(tmp_path: Path) -> None:
    assert write_images([], tmp_path) == []
    assert len(ImageStore(tmp_path)) == 0


def test_transparency_is_laid_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(buffer, format="PNG")
    assert (decode(buffer.getvalue()) == 255).all()


def test_unreadable_and_too_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"a\.png is not a readable image"):
        decode(b"no image", "a.png")
    with pytest.raises(UserError, match="not a readable image"):
        decode(encode_png(solid(1))[:40])
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    with pytest.raises(UserError, match="too large"):
        decode(encode_png(solid(1)))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no image shards"):
        ImageStore(tmp_path)
