"""Images and texts that Parquet files store as bytes."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.annotations.sources import REPOSITORY
from zreward_core.annotations.formats import parquet
from zreward_core.images import ImageStore, image_id
from zreward_core.stages import ingest

STUDY: dict[str, Any] = {
    "format": "parquet",
    "columns": {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}


def encoded(shade: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 9, 9)).save(file, form)
    return file.getvalue()


def write(drops: Path, images: Any, name: str = "x.parquet") -> Path:
    number = len(images)
    columns = {"p": ["q"] * number, "a": ["x"] * number, "s": [4, 3, 2, 1][:number], "i": images}
    pq.write_table(pa.table(columns), drops / name)
    return drops / name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("images", [None, "data/drops"])
def test_bytes_are_the_image(read, drops: Path, form: str, images: str | None) -> None:
    contents = [encoded(9, form), encoded(90, form), encoded(9, form)]
    ids = [image_id(one) for one in contents]
    for column in (contents, pa.array(contents, pa.large_binary())):
        result = read(write(drops, column), images=images, **STUDY)
        assert result.ratings["image_id"].tolist() == ids
        assert result.ratings["item_id"].nunique() == 2


def test_images_of_datasets(read, drops: Path) -> None:
    Path(drops / "b.png").write_bytes(encoded(90))
    cells = [
        {"bytes": encoded(9), "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        None,
        {"bytes": b"\xff\xd8\xff", "path": None},
    ]
    result = read(write(drops, cells), images=drops, **STUDY)
    ids = [image_id(encoded(9)), image_id(encoded(90))]
    assert result.ratings["image_id"].tolist()[:2] == ids
    assert result.ratings["image_id"].isna().tolist() == [False, False, True]
    assert result.quarantine["reason"].tolist() == ["unreadable_image"]
    assert "\\x" not in result.quarantine["raw"][0]
    records = [{"p": "q", "a": "x", "s": 4, "i": {"bytes": None, "path": "b.png"}}]
    (drops / "x.json").write_text(json.dumps(records))
    result = read(drops / "x.json", images=drops, **STUDY | {"format": "json"})
    assert result.ratings["image_id"].tolist() == [ids[1]]


def test_bytes_of_two_compared_images(read, drops: Path) -> None:
    table = {"p": ["q"], "l": [encoded(9)], "r": [encoded(90)], "v": ["left"]}
    pq.write_table(pa.table(table), drops / "x.parquet")
    vote = {"column": "v", "map": {"left": "a", "right": "b"}}
    columns = {"prompt": "p", "image_a": "l", "image_b": "r", "vote": vote}
    items = read(
        drops / "x.parquet", format="parquet", columns=columns, dimension="alignment"
    ).compared_items
    assert items["image_id"].tolist() == [image_id(encoded(9)), image_id(encoded(90))]


def test_images_are_written(drops: Path) -> None:
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    source = {"name": "s", "path": write(drops, [encoded(9), encoded(90)]), **STUDY}
    ingest.run(ingest.Config(seed=0, sources=[source]))
    store = ImageStore(Path("data/ingest/images"))
    assert store.content(image_id(encoded(9))) == encoded(9)


def test_other_bytes_must_be_text(read, drops: Path) -> None:
    raters = pa.array(["zoë".encode(), b"zo\xeb", b"x\0y"], pa.binary())
    table = {"p": ["q"] * 3, "a": raters, "s": [4, 3, 2], "i": ["1.png"] * 3}
    pq.write_table(pa.table(table), drops / "x.parquet")
    result = read(drops / "x.parquet", **STUDY)
    assert result.ratings["annotator_id"].tolist() == ["zoë", "x\0y"]
    assert result.quarantine["reason"].tolist() == ["malformed_record"]


def test_batches_of_images_are_small(drops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(drops, [encoded(shade) for shade in range(4)])
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    monkeypatch.setattr(parquet, "BATCH_BYTES", column.total_uncompressed_size // 2)
    batches = list(parquet.read_parquet(path, parquet.Wanted(("i",))))
    assert [len(one) for one in batches] == [2, 2]
    assert [one.refs.to_pylist()[0] for one in batches] == ["row 1", "row 3"]
