"""Encodings of text files."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.annotations.sources import REPOSITORY
from zreward_core.annotations.formats.encodings import detect_encoding
from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError
from zreward_core.stages import ingest

STUDY: dict[str, Any] = {
    "columns": {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}
TABLE = "p,i,a,s\r\nü дом,1.png,anna,4\r\nдва,2.png,anna,3\r\n"
RECORDS = [{"p": "ü дом", "i": "1.png", "a": "anna", "s": 4}]
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf_16_and_32(read, drops: Path, encoding: str, mark: str) -> None:
    mark = mark if encoding[-3:] in ("-le", "-be") else ""
    (drops / "x.csv").write_bytes((mark + TABLE).encode(encoding))
    ratings = read(drops / "x.csv", format="csv", **STUDY).ratings
    assert ratings["prompt"].tolist() == ["ü дом", "два"]
    text = mark + json.dumps(RECORDS, ensure_ascii=False)
    (drops / "x.json").write_bytes(text.encode(encoding))
    ratings = read(drops / "x.json", format="json", **STUDY).ratings
    assert ratings["prompt"].tolist() == ["ü дом"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "utf-8"),
        (b"a\0b,1.png\n" + b"\0" * 64, "utf-8"),
        (b"p,i\nq,1.png\n" * 50 + b"\0", "utf-8"),
        ("дом,кот\n".encode("utf-16-le"), "utf-16-le"),
        ("p,i\nдом,1\n".encode("cp1251"), "cp1252"),
    ],
)
def test_detected(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert detect_encoding(tmp_path / "x").name == expected


def test_a_guessed_encoding_is_named_once_per_file(drops: Path, caplog) -> None:
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    (drops / "x.csv").write_bytes("p,i,a,s\nдом,1.png,Анна,4\n,1.png,Анна,4\n".encode("cp1251"))
    source = {"name": "s", "format": "csv", "path": drops / "x.csv", **STUDY}
    with caplog.at_level(logging.INFO):
        ingest.run(ingest.Config(seed=0, sources=[source]))
    assert any(one.startswith("reading again") for one in caplog.messages)
    assert [one for one in caplog.messages if "UTF-8" in one] == [
        f"{drops}/x.csv (source 's'): not UTF-8, read as cp1252; set `encoding` if letters look "
        "wrong"
    ]
    caplog.clear()
    ingest.run(ingest.Config(seed=0, sources=[{**source, "encoding": "cp1251"}]))
    assert not [one for one in caplog.messages if "UTF-8" in one]


def test_a_header_in_a_guessed_encoding(read, drops: Path) -> None:
    (drops / "x.csv").write_bytes("дом,i,a,s\n1,2,3,4\n".encode("cp1251"))
    columns = {**STUDY["columns"], "prompt": "дом"}
    with pytest.raises(UserError, match=r"no column дом in its header .*read as cp1252; set `enc"):
        read(drops / "x.csv", format="csv", **STUDY | {"columns": columns})
    result = read(drops / "x.csv", format="csv", encoding="cp1251", **STUDY | {"columns": columns})
    assert len(result.ratings) == 1


def test_notes_of_a_prompt_file(read, drops: Path) -> None:
    (drops / "x.csv").write_text("k,i,s\n5,1.png,4\n")
    (drops / "prompts.csv").write_bytes("id,text\n5,дом\n".encode("cp1251"))
    prompts = {"path": "prompts.csv", "key": "id", "prompt": "text", "column": "k"}
    study = STUDY | {"columns": {"image": "i", "score": "s"}}
    result = read(drops / "x.csv", format="csv", prompts=prompts, **study)
    assert [one.split(";")[0] for one in result.summary.notes] == [
        f"{drops}/prompts.csv: not UTF-8, read as cp1252"
    ]


@pytest.mark.parametrize("word", ["csv", "jsonl", "json"])
def test_gzip_is_named(read, drops: Path, word: str) -> None:
    path = drops / f"x.{word}.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    for source in (path, drops):
        with pytest.raises(UserError, match=rf"{path}: compressed by gzip; decompress it"):
            source_files(Source(name="s", format=word, path=source, **STUDY))
            read(path, format=word, **STUDY)
    with pytest.raises(UserError, match="compressed by gzip"):
        read(path, images=None)
