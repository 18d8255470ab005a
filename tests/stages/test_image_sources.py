"""Folders and data sets of images as sources of candidates."""

import io
import json
import logging
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from zreward_core.config import UserError
from zreward_core.images import ImageStore, Outside, encode_png, write_images
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.stages import _image_parts, _image_sources
from zreward_core.stages._image_parts import kept_rows
from zreward_core.stages._image_sources import ImageDataset, ImageFolder, given_images

PROMPTS = ["a cat", "a dog", "two birds"]
IMAGES = [
    encode_png(np.random.default_rng(n).integers(0, 256, (20, 20, 3), np.uint8)) for n in range(3)
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Path("set").mkdir()
    return tmp_path


def parquet() -> dict:
    """The form that `datasets` itself writes: {bytes, path}."""
    from datasets import Dataset, Features, Image, Value

    column = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(IMAGES)]
    features = Features({"image": Image(), "prompt": Value("string")})
    found = Dataset.from_dict({"image": column, "prompt": PROMPTS}, features)
    found.to_parquet("set/train-00000-of-00001.parquet")
    return {}


def arrow() -> dict:
    """A memory-mapped data set."""
    from datasets import Dataset

    Dataset.from_dict({"picture": IMAGES, "text": PROMPTS}).save_to_disk("set")
    return {"image": "picture", "prompt": "text"}


def files() -> None:
    for n, content in enumerate(IMAGES):
        Path(f"set/{n}.png").write_bytes(content)


def folder() -> dict:
    """Images with metadata."""
    files()
    rows = [{"file_name": f"{n}.png", "prompt": prompt} for n, prompt in enumerate(PROMPTS)]
    Path("set/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {}


def paths() -> dict:
    """A table of paths, one of them outside the folder."""
    files()
    Path("set/2.png").rename("far.png")
    names = ["0.png", "1.png", str(Path("far.png").resolve())]
    rows = [f"{name},{prompt}" for name, prompt in zip(names, PROMPTS, strict=True)]
    Path("set/table.csv").write_text("\n".join(["file,prompt", *rows]))
    return {"path": "set/table.csv", "image": "file"}


def archives() -> dict:
    """WebDataset archives."""
    for number, part in enumerate(([0, 1], [2])):
        with tarfile.open(f"set/{number}.tar", "w") as archive:
            for n in part:
                caption = json.dumps({"caption": PROMPTS[n]}).encode()
                for suffix, content in (("png", IMAGES[n]), ("json", caption)):
                    member = tarfile.TarInfo(f"{n:04d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return {"image": "png", "prompt": "json.caption"}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [parquet, arrow, folder, paths, archives])
def test_a_data_set_of_any_form_is_read(make, in_place: bool) -> None:
    source = ImageDataset(**{"path": Path("set"), "in_place": in_place, **make()})
    refused: dict[str, int] = {}
    found = list(given_images([source], refused))
    assert [row[1] for row in found] == PROMPTS and not refused
    stay = in_place and make in (folder, paths, archives)
    assert all(isinstance(row[0], Outside) == stay for row in found)
    ids = write_images((row[0] for row in found), Path("shards"), outside=in_place)
    store = ImageStore(Path("shards"))
    assert [store.content(one) for one in ids] == IMAGES


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [parquet, arrow, folder, paths, archives])
def test_a_killed_run_goes_on_after_the_last_part(
    make, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImageDataset(**{"path": Path("set"), "in_place": in_place, **make()})
    expected = list(given_images([source], {}))
    monkeypatch.setattr(_image_parts, "PART_ROWS", 1)
    of_row, read = _image_sources._of_row, []

    def killed(source: ImageDataset, row: dict) -> tuple:
        read.append(row["name"])
        if len(read) == 3:
            raise KeyboardInterrupt
        return of_row(source, row)

    monkeypatch.setattr(_image_sources, "_of_row", killed)
    kept = partial(kept_rows, Checkpoint("candidates", source, []))
    with pytest.raises(KeyboardInterrupt):
        list(given_images([source], {}, kept))
    assert list(given_images([source], {}, kept)) == expected
    assert read == [f"row {n}" for n in (0, 1, 2, 2)]
    next(path for path in Path("set").iterdir() if path.is_file()).touch()
    assert list(given_images([source], {}, kept)) == expected and len(read) == 7


def test_reasons_are_kept_with_the_parts(caplog: pytest.LogCaptureFixture) -> None:
    from datasets import Dataset

    rows = {"image": [IMAGES[0], b"no image"], "prompt": ["a cat", "a dog"]}
    Dataset.from_dict(rows).to_parquet("set/0.parquet")
    source = ImageDataset(path=Path("set"))
    kept = partial(kept_rows, Checkpoint("candidates", source, []))
    for _ in range(2):
        caplog.clear()
        refused: dict[str, int] = {}
        assert len(list(given_images([source], refused, kept))) == 1 and refused == {"set": 1}
        assert "row 1 is not a readable image" in caplog.text


def test_places_inside_the_project_are_relative() -> None:
    files()
    Path("set/prompts.json").write_text('{"0.png": "a cat"}')
    source = ImageFolder(path=Path("set"), in_place=True)
    ((image, *_),) = given_images([source], {})
    assert isinstance(image, Outside) and image.path == Path("set/0.png")
    with_archives = ImageDataset(path=Path("set"), in_place=True, **archives())
    for path in Path("set").glob("*.png"):
        path.unlink()
    Path("set/prompts.json").unlink()
    places = [row[0] for row in given_images([with_archives], {})]
    assert [place.path for place in places] == [Path("set/0.tar")] * 2 + [Path("set/1.tar")]


def test_images_that_are_not_listed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    files()
    Path("set/more").mkdir()
    Path("set/0.png").rename("set/more/2.PNG")
    Path("set/prompts.json").write_text('{"1.png": "a cat"}')
    with caplog.at_level(logging.WARNING):
        assert len(list(given_images([ImageFolder(path=Path("set"))], {}))) == 1
    expected = "2 images below set are not in set/prompts.json and are left out (2.png, more/2.PNG)"
    assert expected in caplog.text


def test_a_row_that_cannot_be_used_costs_itself(caplog: pytest.LogCaptureFixture) -> None:
    from datasets import Dataset

    rows = {"image": [IMAGES[0], b"no image", IMAGES[1]], "prompt": ["a cat", "a dog", None]}
    Dataset.from_dict(rows).to_parquet("set/0.parquet")
    refused: dict[str, int] = {}
    source = ImageDataset(path=Path("set"))
    with caplog.at_level(logging.WARNING):
        found = list(given_images([source], refused))
    assert [row[1] for row in found] == ["a cat"] and refused == {"set": 2}
    assert "row 1 is not a readable image" in caplog.text
    assert "row 2 must be a non-empty string" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "none"}, "none is neither a folder nor a table"),
        ({"split": "other"}, "cannot open the split 'other'"),
        ({"image": "picture"}, r"row 0 has the columns \['image', 'prompt'\], not 'picture'"),
        ({"prompt": "prompt.text"}, "must be a non-empty string"),
    ],
)
def test_user_errors_are_explained(settings: dict, message: str) -> None:
    parquet()
    source = ImageDataset(**{"path": "set", **settings})
    with pytest.raises(UserError, match=message):
        list(given_images([source], {}))


def test_images_cannot_stay_in_a_compressed_archive() -> None:
    settings = archives()
    for path in Path("set").glob("*.tar"):
        with tarfile.open(path) as plain, tarfile.open(f"{path}.gz", "w:gz") as packed:
            for member in plain:
                packed.addfile(member, plain.extractfile(member))
        path.unlink()
    assert len(list(given_images([ImageDataset(path=Path("set"), **settings)], {}))) == 3
    in_place = ImageDataset(path=Path("set"), in_place=True, **settings)
    with pytest.raises(UserError, match="not a plain tar archive"):
        list(given_images([in_place], {}))
