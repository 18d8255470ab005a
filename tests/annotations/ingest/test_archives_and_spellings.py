"""Archives are named, and annotators whose names differ by case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.ingest.identities import Identities
from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.reading import note_of_archives, source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.summary import SourceSummary, spellings
from zreward_core.config import UserError
from zreward_core.rubric import Rubric
from zreward_core.stages.ingest import read_source


def source_of(path: str, **settings: Any) -> Source:
    return Source(
        name="study",
        format="csv",
        path=path,
        columns={"score": "s"},
        dimension="alignment",
        scale={"min": 1, "max": 5, "higher_is_better": True},
        **settings,
    )


@pytest.mark.parametrize("path", ["data/drops", "data/drops/study.zip"])
def test_a_zip_archive_is_named(drops: Path, path: str) -> None:
    (drops / "study.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"study\.zip: a zip archive; unpack it"):
        source_files(source_of(path))


@pytest.mark.parametrize("name", ["more.zip", "more.tar.gz", "more.7z", "more.csv.gz"])
def test_an_archive_beside_the_files_is_named(
    drops: Path, default_rubric: Rubric, name: str
) -> None:
    (drops / "study.csv").write_text("s\n3\n")
    assert note_of_archives(source_of("data/drops")) is None
    (drops / "second").mkdir()
    (drops / "second" / name).write_bytes(b"PK\x03\x04")
    source, summary = source_of("data/drops"), SourceSummary()
    index = ItemIndex(source, ImageFolder(None), Identities())
    list(read_source(source, default_rubric, index, summary))
    (note,) = summary.notes
    assert f"1 archives are not read (data/drops/second/{name})" in note
    assert note_of_archives(source_of("data/drops", files="*.csv")) is None


def test_spellings_of_one_annotator() -> None:
    batches = [["Anna", "ben"], ["anna", None, "Anna"]]
    names = pa.chunked_array([pa.array(one).dictionary_encode() for one in batches])
    assert spellings(pa.table({"annotator_id": names})) == [["Anna", "anna"]]
    assert spellings(pa.table({"annotator_id": pa.array(["a", "b"])})) == []


def test_ratings_without_an_annotator_are_named(read: Callable[..., Read], drops: Path) -> None:
    (drops / "a.csv").write_text("i,r,s\n1.png,u,4\n2.png,,3\n")
    found = read(
        drops / "a.csv",
        format="csv",
        columns={"image": "i", "annotator_id": "r", "score": "s"},
        dimension="alignment",
        scale={"min": 1, "max": 5, "higher_is_better": True},
    )
    assert (found.summary.num_unnamed, found.summary.first_unnamed[-5:]) == (1, "row 3")
