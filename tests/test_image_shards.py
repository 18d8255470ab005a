"""Image shards: read by row group, readable by `datasets`, with images outside."""

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zreward_core.config import UserError
from zreward_core.images import ImageStore, Outside, encode_png, shards, write_images


def noise(number: int, size: int = 40) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [encode_png(rng.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(number)]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of ``noise`` in a row group, two row groups in a shard, three kept in memory."""
    size = len(noise(1)[0])
    monkeypatch.setattr(shards, "GROUP_BYTES", size + 1)
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * size)
    monkeypatch.setattr(shards, "HELD_BYTES", 7 * size)


@pytest.mark.usefixtures("small_groups")
def test_a_store_holds_a_few_row_groups_and_returns_every_image(tmp_path: Path) -> None:
    contents = noise(31)
    ids = write_images(contents, tmp_path)
    files = [pq.ParquetFile(path) for path in sorted(tmp_path.iterdir())]
    assert [file.num_row_groups for file in files] == [2] * 8
    assert sum(file.metadata.num_rows for file in files) == 31
    before = pa.total_allocated_bytes()
    store = ImageStore(tmp_path)
    assert list(store) == ids
    assert pa.total_allocated_bytes() - before < len(contents[0])
    for index in np.random.default_rng(1).permutation(93) % 31:
        assert store.content(ids[index]) == contents[index]
        assert pa.total_allocated_bytes() - before < 10 * len(contents[0])


@pytest.mark.usefixtures("small_groups")
def test_images_are_the_first_of_their_content(tmp_path: Path) -> None:
    contents = noise(5)
    ids = write_images([*contents, contents[2]], tmp_path / "a")
    write_images(contents[3:], tmp_path / "b")
    store = ImageStore(tmp_path / "a", tmp_path / "b")
    assert len(store) == 5 and ids[5] == ids[2]
    pixels = store.all_pixels(ids[4:1:-1])
    assert len(pixels) == 3 and (pixels[2] == store.pixels(ids[2])).all()
    assert [one.shape for one in pixels[1:]] == [(40, 40, 3)] * 2


def test_images_taken_in_order_are_decoded_a_few_ahead(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "AHEAD", 3)
    ids, decoded = write_images(noise(9), tmp_path), []
    store = ImageStore(tmp_path)
    expected = [store.pixels(one) for one in ids]
    pixels = store.pixels
    monkeypatch.setattr(store, "pixels", lambda one: decoded.append(one) or pixels(one))
    started = time.monotonic()
    for number, image in enumerate(store.all_pixels(ids), 1):
        assert (image == expected[number - 1]).all()
        while len(decoded) < min(number + 3, 9) and time.monotonic() < started + 60:
            time.sleep(0.01)
        assert sorted(decoded) == sorted(ids[: number + 3])
    with pytest.raises(UserError, match="lack the image abc"):
        list(store.all_pixels([*ids, "abc"]))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write_images([], tmp_path)
    with pytest.raises(UserError, match="lack the image abc"):
        ImageStore(tmp_path).content("abc")


def test_images_stay_outside_until_they_change(tmp_path: Path) -> None:
    first, second, third = noise(3)
    alone, joined = tmp_path / "one.png", tmp_path / "two.bin"
    alone.write_bytes(first)
    joined.write_bytes(b"header" + second + b"trailer")
    given = [Outside(first, alone), Outside(second, joined, 6), third]
    ids = write_images(given, tmp_path / "shards", outside=True)
    store = ImageStore(tmp_path / "shards")
    assert [store.content(one) for one in ids] == [first, second, third]
    assert sum(file.stat().st_size for file in (tmp_path / "shards").iterdir()) < 2 * len(third)
    alone.write_bytes(second)
    with pytest.raises(UserError, match=r"no longer the one in .*one\.png"):
        store.content(ids[0])
    joined.unlink()
    with pytest.raises(UserError, match=r"two\.bin cannot be read"):
        store.content(ids[1])


def test_datasets_opens_a_folder_of_shards_and_its_form_is_read(tmp_path: Path) -> None:
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    contents = noise(3)
    ids = write_images(contents, tmp_path / "shards")
    found = load_dataset(
        "parquet", data_dir=str(tmp_path / "shards"), split="train", streaming=True
    ).cast_column("bytes", ImageFeature())
    rows = list(found)
    assert [row["image_id"] for row in rows] == ids
    store = ImageStore(tmp_path / "shards")
    assert all((np.asarray(row["bytes"]) == store.pixels(row["image_id"])).all() for row in rows)

    table = pq.read_table(tmp_path / "shards")
    column = [{"bytes": content, "path": "x.png"} for content in contents]
    (tmp_path / "saved").mkdir()
    table = table.set_column(1, "bytes", pa.array(column))
    pq.write_table(table, tmp_path / "saved/0.parquet")
    assert [ImageStore(tmp_path / "saved").content(one) for one in ids] == contents


def test_threads_read_the_same_images(tmp_path: Path, small_groups: None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    contents = noise(9)
    ids = write_images(contents, tmp_path)
    store = ImageStore(tmp_path)
    order = np.random.default_rng(0).integers(9, size=200)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda index: store.content(ids[index]), order))
    assert found == [contents[index] for index in order]
    assert Image.open(io.BytesIO(found[0])).size == (40, 40)
