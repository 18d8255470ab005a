"""References as they occur in exports, and the file that each resolves to."""

import base64
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from zreward_core.annotations.ingest.image_folder import MAX_BYTES, ImageFolder
from zreward_core.annotations.ingest.references import Reading, canonical, embedded, readings
from zreward_core.images import encode_png, image_id

STUDY = {
    "format": "csv",
    "columns": {"image": "img", "annotator_id": "who", "score": "stars"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}


def content_of(name: str) -> bytes:
    """A different PNG for each name."""
    values = np.frombuffer(name.encode().ljust(48, b".")[:48], dtype=np.uint8)
    return encode_png(values.reshape(4, 4, 3))


@pytest.fixture
def folder(drops: Path) -> Path:
    return drops / "images"


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content_of(name))


def found(folder: Path, *references: str) -> dict[str, str | None]:
    """Reference to the file it resolves to after all were read; "!" and a reason if rejected."""
    images = ImageFolder(folder)
    names = {image_id(content_of(path)): path for path in _names(folder)}
    while True:
        resolved = {one: images.resolve(one) for one in references}
        if not images.settle():
            break
    return {
        one: f"!{fault}" if fault else names.get(identifier)
        for one, (identifier, fault) in resolved.items()
    }


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("set/0.png", "set/0.png"),
        ("./set/0.png", "set/0.png"),
        ("images/set/0.png", "set/0.png"),
        ("drops/images/set/0.png", "set/0.png"),
        ("../images/set/0.png", "set/0.png"),
        (r"set\0.png", "set/0.png"),
        (r".\set\0.png", "set/0.png"),
        (r"C:\Users\me\study\set\0.png", "set/0.png"),
        (r"\\server\share\set\0.png", "set/0.png"),
        ("file:///C:/study/set/0.png", "set/0.png"),
        ("/home/me/study/set/0.png", "set/0.png"),
        ("https://host:8080/bucket/set/0.png?X-Amz-Signature=ab&X-Amz-Date=1", "set/0.png"),
        ("s3://bucket/set/0.png", "set/0.png"),
        ("/data/local-files/?d=study%2Fset%2F0.png", "set/0.png"),
        ("http://localhost:8080/data/local-files/?d=set/0.png", "set/0.png"),
        ("0.png", "set/0.png"),
        ("SET/0.PNG", "set/0.png"),
        ("/data/upload/3/4f3a2b1c-door_1.png", "door_1.png"),
        ("http://host/ls/data/upload/3/4f3a2b1c-door_1.png", "door_1.png"),
        ("/data/upload/door_1.png", "door_1.png"),
        ("/data/upload/12/4f3a2b1c-my_photo_1.png", "my photo (1).png"),
        ("my%20photo%20(1).png", "my photo (1).png"),
        ("a%20b.png", "a%20b.png"),
        ("what?.png", "what?.png"),
        ("photo #1.png", "photo #1.png"),
        (
            unicodedata.normalize("NFC", "café_Übung.png"),
            unicodedata.normalize("NFD", "café_Übung.png"),
        ),
        ("photo.jpg", "Photo.JPG"),
        ("other/0.png", None),
        ("set/1.png", None),
        ("a" * 300 + ".png", None),
        ("x/" * 3000 + "y.png", None),
        ("", None),
        ("...", None),
        ("https://", None),
        ("https://[", None),
        ("../../../etc/passwd", "!path_outside_drop"),
        ("%2e%2e/%2e%2e/secret.png", "!path_outside_drop"),
        ("a\0b.png", "!path_outside_drop"),
    ],
)
def test_one_reference(folder: Path, reference: str, name: str | None) -> None:
    nfd = unicodedata.normalize("NFD", "café_Übung.png")
    names = ("set/0.png", "door_1.png", "my photo (1).png", "a%20b.png", "what?.png", nfd)
    fill(folder, *names, "photo #1.png", "Photo.JPG")
    assert found(folder, reference) == {reference: name}


def test_a_name_is_never_another_image_of_the_same_name(folder: Path) -> None:
    fill(folder, "sdxl/0.png", "dalle/0.png", "0.png", "Photo.png", "photo.png")
    assert found(folder, "sdxl/0.png", "x/dalle/0.png", "0.png", "flux/0.png") == {
        "sdxl/0.png": "sdxl/0.png",
        "x/dalle/0.png": "dalle/0.png",
        "0.png": "0.png",
        "flux/0.png": None,  # ends like 0.png, which is matched in full
    }
    assert found(folder, "PHOTO.png", "photo.png") == {"PHOTO.png": None, "photo.png": "photo.png"}


def test_the_longest_end_counts(folder: Path) -> None:
    fill(folder, "a/set/0.png", "b/set/0.png", "0.png")
    assert found(folder, "C:/x/a/set/0.png")["C:/x/a/set/0.png"] == "a/set/0.png"
    assert found(folder, "set/0.png") == {"set/0.png": None}  # two files


def test_references_that_exclude_each_other_get_no_image(folder: Path) -> None:
    fill(folder, "0.png", "1.png", "set/2.png")
    rows = ["sdxl/0.png", "dalle/0.png", "sdxl/1.png", "set/2.png", "C:/study/set/2.png"]
    for order in (rows, rows[::-1]):
        assert found(folder, *order) == {
            "sdxl/0.png": None,
            "dalle/0.png": None,
            "sdxl/1.png": "1.png",
            "set/2.png": "set/2.png",
            "C:/study/set/2.png": "set/2.png",  # the same path on a rater's machine
        }
    pages = ["https://host/0.png?id=1", "https://host/0.png?id=2"]
    assert found(folder, *pages) == dict.fromkeys(pages)


def test_uploads_of_two_projects_are_the_same_file_and_of_one_are_not(folder: Path) -> None:
    fill(folder, "0.png", "1.png")
    two = ["/data/upload/1/aaaaaaaa-0.png", "/data/upload/2/bbbbbbbb-0.png", "/data/upload/3/0.png"]
    one = ["/data/upload/1/aaaaaaaa-1.png", "/data/upload/1/bbbbbbbb-1.png"]
    assert found(folder, *two, *one) == {**dict.fromkeys(two, "0.png"), **dict.fromkeys(one)}


def test_links(folder: Path, tmp_path: Path) -> None:
    fill(folder, "set/0.png")
    for cache in ("cache/files/md5/1a", ".dvc/cache/1a"):
        (tmp_path / cache).mkdir(parents=True)
        (tmp_path / cache / ("b" * 30)).write_bytes(content_of("cached.png"))
    (tmp_path / "secret.png").write_bytes(content_of("secret.png"))
    (folder / "cached.png").symlink_to(tmp_path / "cache/files/md5/1a" / ("b" * 30))
    (folder / "cached2.png").symlink_to(tmp_path / ".dvc/cache/1a" / ("b" * 30))
    (folder / "secret.png").symlink_to(tmp_path / "secret.png")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "inside").symlink_to("set")
    (folder / "set/up").symlink_to("..")
    (folder / "self.png").symlink_to("self.png")
    (folder / "gone.png").symlink_to("nothing.png")
    os.mkfifo(folder / "pipe.png")
    cached = image_id(content_of("cached.png"))
    images = ImageFolder(folder)
    assert images.resolve("cached.png") == images.resolve("cached2.png") == (cached, None)
    assert images.resolve("inside/0.png") == images.resolve("set/0.png")
    for reference in ("secret.png", "outside/secret.png"):
        assert images.resolve(reference) == (None, "path_outside_drop")
    for reference in ("self.png", "gone.png", "pipe.png", "set"):
        assert images.resolve(reference) == (None, None)


def test_unusable_files_are_named_with_the_reason(
    read, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "good.png", "locked.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder / "torn.png").write_bytes(content_of("torn.png")[:40])
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:  # the superuser can read any file
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    table = folder.parent / "v.csv"
    rows = "".join(f"{name}.png,1,4\n" for name in ("good", "locked", "torn", "huge", "absent"))
    table.write_text("img,who,stars\n" + rows)
    result = read(table, **STUDY, images=folder)
    reasons = ["unreadable_image", "unreadable_image", "image_too_large"]
    assert result.quarantine["reason"].tolist() == reasons
    assert result.summary.missing_images == {"number": 1, "first": ["absent.png"]}
    refused = result.summary.refused_images
    assert refused["number"] == 3
    assert refused["first"][0] == "locked.png (Permission denied)"
    assert refused["first"][1].startswith("torn.png (torn.png is not a readable image")


def test_ten_references_are_listed(read, folder: Path) -> None:
    fill(folder, "good.png")
    rows = "".join(f"absent_{n % 12}.png,{n},4\n" for n in range(36))
    table = folder.parent / "v.csv"
    table.write_text("img,who,stars\n" + rows)
    missing = read(table, **STUDY, images=folder).summary.missing_images
    assert missing == {"number": 12, "first": [f"absent_{n}.png" for n in range(10)]}


def test_embedded_images(read, drops: Path) -> None:
    content = content_of("embedded")
    text = base64.b64encode(content).decode()
    rows = [
        f"data:image/png;base64,{text}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in content),
        text,
        f"data:image/png;base64,{text[: len(text) // 2]}",
        "data:image/png;base64,%%%",
        "data:text/plain,hello",
    ]
    table = drops / "v.jsonl"
    table.write_text("".join(json.dumps({"img": one, "stars": 4}) + "\n" for one in rows))
    result = read(
        table, **{**STUDY, "format": "jsonl", "columns": {"image": "img", "score": "stars"}}
    )
    assert result.ratings["image_id"].tolist() == [image_id(content)] * 3
    assert result.ratings["item_id"].nunique() == 1
    assert result.quarantine["reason"].tolist() == ["unreadable_image"] * 3


def test_readings_and_names() -> None:
    assert readings("a/./b/../c.png") == [Reading(("a", "c.png"))]
    assert canonical(r".\set\0.png")[0] == canonical("set/0.png")[0] == "set/0.png"
    assert canonical("/data/upload/3/4f3a2b1c-0.png")[0] == "0.png"
    assert canonical("https://host/view?img=1")[0] != canonical("https://host/view?img=2")[0]
    signed = "https://host/0.png?X-Amz-Date={0}&X-Amz-Signature={0}"
    assert canonical(signed.format(1))[0] == canonical(signed.format(2))[0]
    assert embedded("set/0.png") is None and embedded("/9j/short") is None
