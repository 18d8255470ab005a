"""Every form of input gives the same rows; a bad row costs itself, a bad file names itself."""

import base64
import io
import json
import os
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands.scoring.conftest import png
from zreward_core.annotations.formats import delimited, records
from zreward_core.commands.scoring.rows import Columns, Source
from zreward_core.commands.scoring.score_file import METADATA
from zreward_core.commands.scoring.sources import open_source
from zreward_core.config import UserError, writable
from zreward_core.images import write_images
from zreward_core.schemas import digest

PROMPTS = ["a cat", "a red, flat sofa", "Große Katze"]
CONTENTS = [png(number) for number in range(3)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, content in enumerate(CONTENTS):
        (folder / f"{number}.png").write_bytes(content)
    return folder


def read(source: Source, start: int = 0) -> list[tuple]:
    rows = list(source.rows(start))
    assert len(rows) == source.count - start
    contents = [r.image.read_bytes() if isinstance(r.image, Path) else r.image for r in rows]
    return [(row.prompt, one, row.error) for row, one in zip(rows, contents, strict=True)]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def form(kind: str, folder: Path) -> tuple[Path, Columns, Path | None]:
    """The three images as one kind of input."""
    names = [f"{number}.png" for number in range(3)]
    frame = pd.DataFrame({"image": names, "prompt": PROMPTS})
    beside, out = Columns(), folder.parent
    if kind in ("csv", "tsv"):
        frame.to_csv(folder / f"t.{kind}", sep="," if kind == "csv" else "\t", index=False)
        return folder / f"t.{kind}", beside, None
    if kind in ("jsonl", "json"):
        frame.rename(columns={"prompt": "caption"}).to_json(
            folder / f"t.{kind}", orient="records", lines=kind == "jsonl"
        )
        return folder / f"t.{kind}", beside, None
    if kind == "other_columns":
        cells = [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in CONTENTS]
        lines = [json.dumps({"x": {"p": p}, "y": c}) for p, c in zip(PROMPTS, cells, strict=True)]
        (out / "t.jsonl").write_text("\n".join(lines))
        return out / "t.jsonl", Columns("y", "x.p"), None
    if kind == "parquet_paths":
        frame.to_parquet(out / "t.parquet")
        return out / "t.parquet", beside, folder
    if kind == "parquet_bytes":
        table = pa.table({"image": CONTENTS, "prompt": PROMPTS})
        pq.write_table(table, out / "t.parquet", row_group_size=2)
        return out / "t.parquet", beside, None
    if kind == "datasets":
        (out / "d").mkdir()
        cells = [{"bytes": one, "path": None} for one in CONTENTS]
        for part in (slice(0, 1), slice(1, 3)):
            table = pa.table({"image": cells[part], "text": PROMPTS[part]})
            pq.write_table(table, out / f"d/{part.start}.parquet")
        return out / "d", beside, None
    if kind == "shards":
        (out / "pool").mkdir()
        ids = write_images(CONTENTS, out / "pool/images")
        pd.DataFrame({"image_id": ids, "prompt": PROMPTS}).to_parquet(out / "pool/pool.parquet")
        return out / "pool/pool.parquet", beside, None
    if kind == "prompts_json":
        content = dict(zip(names, PROMPTS, strict=True))
        (folder / "prompts.json").write_text(json.dumps(content))
        return folder, beside, None
    if kind == "metadata":
        frame.rename(columns={"image": "file_name"}).to_csv(folder / "metadata.csv", index=False)
        return folder, beside, None
    if kind == "texts":
        for number, prompt in enumerate(PROMPTS):
            (folder / f"{number}.txt").write_text(prompt + "\n", encoding="utf-8")
        return folder, beside, None
    assert kind == "webdataset"
    (out / "w").mkdir()
    with tarfile.open(out / "w/0.tar", "w") as archive:
        add(archive, "a/0.png", CONTENTS[0])
        add(archive, "a/0.txt", PROMPTS[0].encode())
    with tarfile.open(out / "w/1.tar", "w") as archive:
        for number in (1, 2):
            add(archive, f"{number}.json", json.dumps({"caption": PROMPTS[number]}).encode())
            add(archive, f"{number}.png", CONTENTS[number])
    return out / "w", beside, None


KINDS = (
    *("csv", "tsv", "jsonl", "json", "other_columns", "parquet_paths", "parquet_bytes"),
    *("datasets", "shards", "prompts_json", "metadata", "texts", "webdataset"),
)


def test_images_that_prompts_json_does_not_list_are_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, columns, images = form("prompts_json", photos)
    (path / "new.jpg").write_bytes(CONTENTS[0])
    assert len(read(open_source([path], columns, images))) == len(PROMPTS)
    assert f"1 images below {path} are not in {path / 'prompts.json'}" in caplog.text
    assert "(new.jpg)" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gives_the_same_rows(kind: str, photos: Path) -> None:
    path, columns, images = form(kind, photos)
    source = open_source([path], columns, images)
    expected = [(prompt, one, None) for prompt, one in zip(PROMPTS, CONTENTS, strict=True)]
    assert read(source) == expected
    assert [read(source, start) for start in (1, 2)] == [expected[1:], expected[2:]]
    assert all(str(path.name) in row.place or "sample" in row.place for row in source.rows())


def test_paths_beside_shards_are_paths(photos: Path) -> None:
    path, columns, _ = form("csv", photos)
    write_images(CONTENTS, photos / "images")
    assert [one for _, one, _ in read(open_source([path], columns))] == CONTENTS


def test_one_prompt_for_a_folder_shards_and_files(photos: Path) -> None:
    one = Columns(text="a cat")
    write_images(CONTENTS, photos.parent / "images")
    files = sorted(photos.glob("*.png"))
    for paths in ([photos], [photos.parent / "images"], files):
        assert read(open_source(paths, one)) == [("a cat", content, None) for content in CONTENTS]
    given = [files[2], files[0], files[2]]  # rows have the order of the input
    rows = read(open_source(given, one))
    assert rows == [("a cat", CONTENTS[number], None) for number in (2, 0, 2)]
    assert read(open_source(given, one), 1) == rows[1:]


def test_a_bad_row_costs_itself(photos: Path) -> None:
    lines = ["image,prompt", "0.png,a cat", "0.png", ",a cat", "0.png,a dog"]
    (photos / "t.csv").write_text("\n".join(lines))
    rows = list(open_source([photos / "t.csv"], Columns()).rows())
    assert [row.place.rpartition(" ")[2] for row in rows] == ["2", "3", "4", "5"]
    assert [row.error for row in rows] == [
        None,
        "it is not a row with a cell for each column",
        "the cell of the image is empty, or neither a path nor bytes",
        None,
    ]
    (photos / "t.jsonl").write_text(
        '{"image": "0.png", "prompt": 3}\n{"image"\n\n[1]\n{}\n'
        '{"image": "0.png", "prompt": "a", "prompt": "b"}\n'
    )
    rows = list(open_source([photos / "t.jsonl"], Columns()).rows())
    assert [row.place.rpartition(" ")[2] for row in rows] == ["1", "2", "4", "5", "6"]
    assert all(row.error for row in rows)
    with tarfile.open(photos / "t.tar", "w") as archive:
        add(archive, "0.png", CONTENTS[0])
        add(archive, "1.txt", b"a cat")
    rows = list(open_source([photos / "t.tar"], Columns()).rows())
    errors = [str(row.error) for row in rows]
    assert errors[0].startswith("the prompt is missing, the sample has only png")
    assert errors[1].startswith("the sample has no image, only txt")


@pytest.mark.parametrize("quote", ["", '"'])  # a quote inside a cell: read line by line
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_rows_have_the_order_of_the_file(
    suffix: str, quote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 256)
    monkeypatch.setattr(records, "BATCH_ROWS", 7)
    lines, expected, number = ["image,x,prompt"], [], 1
    for i in range(40):
        rows = [f"{i}.png,1,a {quote}cat", f"{i}.png,1,a cat, sleeping", "", ",,", f'{i}.png,"",p']
        rows += ["  ", ",5,", f"{i}.png"] if i % 3 else [f'{i}.png,1,"two\nlines"', f"{i}.png,1"]
        for row in rows:
            number += 1
            lines.append(row)
            cells = row.split(",")
            if row.strip(" ,"):
                fits = len(cells) == 3
                image = None if not fits else cells[0]
                expected.append((number, image, fits and bool(cells[0])))
    path = tmp_path / f"t{suffix}"
    path.write_text("\n".join(lines).replace(",", "," if suffix == ".csv" else "\t") + "\n\n")
    source = open_source([path], Columns())
    found = [(int(r.place.split()[-1]), r.name, r.error is None) for r in source.rows()]
    assert found == expected and source.count == len(expected)
    for start in (1, 17, 100):  # resuming and other processes start inside
        assert [int(row.place.split()[-1]) for row in source.rows(start)] == [
            place for place, _, _ in expected[start:]
        ]


def test_a_sample_with_several_images_has_a_reason(tmp_path: Path) -> None:
    """Instead of the score of the first one, such as a condition of the image."""
    path = tmp_path / "t.tar"
    names = ["0.cond.png", "0.png", "0.txt", "1.png", "1.txt", "1.png", "2.png", "3.png", "2.txt"]
    with tarfile.open(path, "w") as archive:
        for name in names:
            add(archive, name, b"a cat" if name.endswith("txt") else CONTENTS[0])
    reasons = [str(row.error) for row in open_source([path], Columns()).rows()]
    assert "several images (cond.png, png): name one with --image-column cond.png" in reasons[0]
    assert "a member twice: png, txt, png" in reasons[1]
    assert "prompt is missing, the sample has only png; the members of" in reasons[2]
    assert "no image, only txt; the members of a sample must follow each other" in reasons[4]
    first, *_ = open_source([path], Columns(image="png")).rows()
    assert first.error is None and first.name == "0.png" and first.prompt == "a cat"


def test_hidden_files_and_scores_are_not_images(photos: Path) -> None:
    """Those that macOS and Jupyter make, and the output of the command itself."""
    (photos / "._0.png").write_bytes(b"no image")
    (photos / ".ipynb_checkpoints").mkdir()
    (photos / ".ipynb_checkpoints/0-checkpoint.png").write_bytes(CONTENTS[0])
    assert open_source([photos], Columns(text="a cat")).count == 3
    folder, columns, _ = form("datasets", photos)
    assert open_source([folder], columns).count == 3
    table = pa.table({"image": ["0.png"], "prompt": ["a cat"]})
    pq.write_table(table.replace_schema_metadata({METADATA: b"{}"}), folder / "a_scores.parquet")
    assert open_source([folder], columns).count == 3
    shards = photos.parent / "shards"
    write_images(CONTENTS, shards)
    pq.write_table(table, shards / "scores.parquet")
    with pytest.raises(UserError, match=r"scores.parquet is not an image shard: move it out"):
        open_source([shards], Columns(text="a cat"))


def test_a_blank_row_is_none_in_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["image", "prompt"], ["0.png", "a"], [None, None], [None, "b"], ["2.png", "c"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    rows = list(open_source([tmp_path / "t.xlsx"], Columns()).rows())
    found = [(row.place.rpartition(" ")[2], row.prompt, row.error is None) for row in rows]
    assert found == [("2", "a", True), ("4", "b", False), ("5", "c", True)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
def test_a_header_with_punctuation_names_its_columns(suffix: str, tmp_path: Path) -> None:
    header = ["id, (old)", "img (path)", "text of prompt, long"]
    frame = pd.DataFrame([[1, "0.png", "a cat"]], columns=header)
    path = tmp_path / f"t{suffix}"
    if suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    (row,) = open_source([path], Columns(header[1], header[2])).rows()
    assert (row.name, row.prompt, row.error) == ("0.png", "a cat", None)
    with pytest.raises(UserError, match=r"no column image .*\(it has: .*img \(path\), text of"):
        open_source([path], Columns())


def test_a_delimiter_is_found_by_the_columns_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("img (path);text, long\n0.png;a cat\n")
    (row,) = open_source([tmp_path / "t.csv"], Columns("img (path)", "text, long")).rows()
    assert (row.name, row.prompt) == ("0.png", "a cat")


def test_a_named_key_may_first_occur_late_in_a_json_file(tmp_path: Path) -> None:
    lines = ['{"image": "0.png"}'] * 150 + ['{"image": "0.png", "said": "a cat"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    rows = list(open_source([tmp_path / "t.jsonl"], Columns(None, "said")).rows())
    assert [row.prompt for row in rows if row.error is None] == ["a cat"]


def test_bad_files_name_themselves(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (photos / "a.csv").write_text("file,prompt\n0.png,a cat\n")
    (photos / "b.parquet").write_bytes(b"PAR1 no")
    (photos / "c.tar").write_bytes(b"no tar" * 200)
    (photos / "d.csv").write_text("image,prompt\n")
    (photos / "e.jsonl").write_text('{"image": "0.png"}\n')
    cases = {
        photos / "a.csv": r"a\.csv: no column image or .*has: .*file.*--image-column",
        photos / "b.parquet": "b.parquet is not a readable Parquet file",
        photos / "c.tar": "c.tar is not a whole, uncompressed tar archive",
        photos / "d.csv": "d.csv has no images",
        photos / "e.jsonl": "e.jsonl: no column prompt .*--prompt-column",
        photos / "none.csv": "none.csv is not found",
        tmp_path / "empty": "empty has no images: pass a table",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message):
            open_source([path], Columns())
    for file in photos.glob("?.*[!g]"):
        file.unlink()
    with pytest.raises(UserError, match=r"photos has 3 images but no prompts: add prompts\.json"):
        open_source([photos], Columns())
    write_images(CONTENTS, tmp_path / "images")
    with pytest.raises(UserError, match="images has images without prompts: score the table"):
        open_source([tmp_path / "images"], Columns())


def test_names_that_no_image_has_say_why(tmp_path: Path) -> None:
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "0.png").write_bytes(CONTENTS[0])
    assert open_source([tmp_path], Columns(text="a")).count == 1  # not the folder
    urls = ["https://host/a.png", "s3://b/a.png", "file:///tmp/a.png"]
    frame = pd.DataFrame({"image": [*urls, "C:\\a\\b.png", "0.png", "0.png"]})
    frame["prompt"] = pd.Series([*["a"] * 5, float("nan")], dtype=object)
    frame.to_json(tmp_path / "t.json", orient="records")
    errors = [row.error for row in open_source([tmp_path / "t.json"], Columns()).rows()]
    assert errors[:3] == [f"{u} is a URL: download the image, and name its file" for u in urls]
    assert "C:\\a\\b.png is not found: separate folders by /" in str(errors[3])
    assert errors[4:] == [None, "the prompt is missing"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.csv"])
def test_an_empty_table_has_no_images(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("[]" if name == "t.json" else "")
    with pytest.raises(UserError, match="has no images: pass a table"):
        open_source([tmp_path / name], Columns())


def test_a_name_that_is_not_utf_8_identifies_its_job(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png"))
    assert digest(str(path)) != digest(writable(str(path)))
