"""Characters that nobody sees: no-break and zero-width spaces, Unicode forms."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.ingest.summary import spellings
from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.schemas import normalise_prompt

STUDY: dict[str, Any] = {
    "columns": {"prompt": "p", "image": "i", "annotator_id": "a", "score": "s"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}
ZERO_WIDTH = "\u200b"


def test_ends_of_cells(read: Callable[..., Read], drops: Path) -> None:
    (drops / "images").mkdir()
    (drops / "images/1.png").write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8)))
    (drops / "a.csv").write_text(
        "p,i,a,s\n"
        "a cat,1.png,anna,4\n"
        f"a{ZERO_WIDTH} cat,1.png{ZERO_WIDTH},anna{ZERO_WIDTH},{ZERO_WIDTH}5\n"
        "a\u00a0cat,\ufeff1.png,\u200eanna\u00a0,3\u00a0\n",
        encoding="utf-8",
    )
    result = read(drops / "a.csv", format="csv", images=drops / "images", **STUDY)
    assert result.ratings["native_score"].tolist() == [4.0, 5.0, 3.0]
    assert result.ratings["annotator_id"].tolist() == ["anna"] * 3
    assert result.ratings["item_id"].nunique() == 1 and not result.summary.without_image


def test_words(read: Callable[..., Read], drops: Path) -> None:
    (drops / "a.csv").write_text(
        f"p,i,a,s\nq,1.png,anna,Very\u00a0good\nq,2.png,anna,Good{ZERO_WIDTH}\n", encoding="utf-8"
    )
    columns = STUDY["columns"] | {"score": {"column": "s", "words": {"Very good": 5, "Good": 4}}}
    result = read(drops / "a.csv", format="csv", **STUDY | {"columns": columns})
    assert result.ratings["native_score"].tolist() == [5.0, 4.0]


def test_names_of_columns(read: Callable[..., Read], drops: Path) -> None:
    header = [f"p{ZERO_WIDTH}", "\ufeffi", "\u00a0a", "s\u200e"]
    (drops / "a.csv").write_text(",".join(header) + "\nq,1.png,anna,4\n", encoding="utf-8")
    book = openpyxl.Workbook()
    book.active.append(header)
    book.active.append(["q", "1.png", "anna", 4])
    book.save(drops / "a.xlsx")
    for name, kind in (("a.csv", "csv"), ("a.xlsx", "excel")):
        assert read(drops / name, format=kind, **STUDY).ratings["prompt"].tolist() == ["q"]


def test_a_column_that_looks_the_same_is_shown_escaped(
    read: Callable[..., Read], drops: Path
) -> None:
    (drops / "a.csv").write_text("p,i,Your\u00a0name,s\nq,1.png,anna,4\n", encoding="utf-8")
    columns = STUDY["columns"] | {"annotator_id": "Your name"}
    with pytest.raises(UserError, match=re.escape(r'copy the name from here: "Your\u00a0name";')):
        read(drops / "a.csv", format="csv", **STUDY | {"columns": columns})


def test_annotators_that_look_the_same() -> None:
    names = ["Jose\u0301", "José", "ann\u200ba", "anna", "Ben", "ben", "carl"]
    found = spellings(pa.table({"annotator_id": pa.array(names)}))
    assert sorted(map(sorted, found)) == [
        [r"'Jos\xe9'", r"'Jose\u0301'"],
        [r"'ann\u200ba'", "'anna'"],
        ["Ben", "ben"],
    ]


def test_prompts_are_compared_without() -> None:
    assert normalise_prompt(f"a{ZERO_WIDTH} \u00adCat\ufeff") == "a cat"
