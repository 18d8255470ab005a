"""Zip archives are named, and annotators whose names differ by case."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.summary import spellings
from zreward_core.config import UserError


@pytest.mark.parametrize("path", ["data/drops", "data/drops/study.zip"])
def test_a_zip_archive_is_named(drops: Path, path: str) -> None:
    (drops / "study.zip").write_bytes(b"PK\x03\x04")
    source = Source(
        name="study",
        format="csv",
        path=path,
        columns={"score": "s"},
        dimension="alignment",
        scale={"min": 1, "max": 5, "higher_is_better": True},
    )
    with pytest.raises(UserError, match=r"study\.zip: a zip archive; unpack it"):
        source_files(source)


def test_spellings_of_one_annotator() -> None:
    batches = [["Anna", "ben"], ["anna", None, "Anna"]]
    names = pa.chunked_array([pa.array(one).dictionary_encode() for one in batches])
    assert spellings(pa.table({"annotator_id": names})) == [["Anna", "anna"]]
    assert spellings(pa.table({"annotator_id": pa.array(["a", "b"])})) == []


def test_rows_of_totals_are_named(read: Callable[..., Read], drops: Path) -> None:
    (drops / "a.csv").write_text("i,r,s\n1.png,u,4\nMean,,3\n")
    found = read(
        drops / "a.csv",
        format="csv",
        columns={"image": "i", "annotator_id": "r", "score": "s"},
        dimension="alignment",
        scale={"min": 1, "max": 5, "higher_is_better": True},
    )
    assert (found.summary.num_unnamed, found.summary.first_unnamed[-5:]) == (1, "row 3")
