"""Writers refuse numbers that are not finite; readers name the command that writes a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.annotations.items.ratings_table import read_ratings
from zreward_core.config import UserError
from zreward_core.diffusion.loading import locate
from zreward_core.images import ImageStore
from zreward_core.models.card import read_card
from zreward_core.schemas import (
    ITEMS,
    NotFinite,
    how_to_make,
    read_json,
    read_table,
    require_finite,
    write_json,
    write_table,
)

SCHEMA = pa.schema(
    [("name", pa.string()), ("score", pa.float64()), ("probs", pa.list_(pa.float64()))]
)


def table(score: float = 1.0, prob: float = 0.5) -> pd.DataFrame:
    rows = [("a", 2.0, [0.5, 0.5]), ("b", score, [0.5, prob])]
    return pd.DataFrame(rows, columns=SCHEMA.names)


@pytest.mark.parametrize(
    ("frame", "column"),
    [(table(score=np.inf), "score"), (table(prob=np.inf), "probs"), (table(prob=np.nan), "probs")],
)
def test_a_table_with_a_number_that_is_not_finite_is_not_written(
    frame: pd.DataFrame, column: str, tmp_path: Path
) -> None:
    with pytest.raises(NotFinite, match=rf"table\.parquet: the column '{column}'"):
        write_table(frame, tmp_path / "table.parquet", SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_missing_number_is_null(tmp_path: Path) -> None:
    write_table(table(score=np.nan), tmp_path / "table.parquet", SCHEMA)
    assert read_table(tmp_path / "table.parquet", SCHEMA)["score"].isna().tolist() == [False, True]
    write_table(table().iloc[:0], tmp_path / "empty.parquet", SCHEMA)


def test_json_with_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    content = {"models": {"student": [{"hpa": 0.5}, {"hpa": float("nan")}]}}
    with pytest.raises(NotFinite, match=r"metrics\.json: models\.student\.1\.hpa is nan"):
        write_json(content, tmp_path / "metrics.json")
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_not_finite_is_named_with_its_place_and_value() -> None:
    require_finite("stage, step 3", {"loss": 1.0}, "lower the rate")
    with pytest.raises(UserError, match=r"^stage, step 3: norm is inf; lower the rate$"):
        require_finite("stage, step 3", {"loss": 1.0, "norm": float("inf")}, "lower the rate")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("data/evaluate/metrics.json", "`zreward evaluate`"),
        ("data/candidates/images", "`zreward candidates`"),
        ("/data/project/data/ingest/images", "`zreward ingest`"),
        ("data/drops/example/prompts.json", "correct the path"),
        ("label/prompts.json", "correct the path"),
    ],
)
def test_a_missing_file_of_a_stage_names_the_command(path: str, remedy: str) -> None:
    assert remedy in how_to_make(Path(path))


def test_every_reader_of_a_stage_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    readers: dict[str, Callable[[Path], object]] = {
        "data/validate/items.parquet": lambda path: read_table(path, ITEMS),
        "data/ingest/ratings.parquet": read_ratings,
        "data/evaluate/metrics.json": read_json,
        "data/candidates/images": ImageStore,
        "data/finetune_generator/generator": locate,
        "data/train_risd/student": read_card,
        "data/annotate": ImageFolder,
    }
    for name, read in readers.items():
        with pytest.raises(UserError, match=f"`zreward {name.split('/')[1]}`.*`zreward run`"):
            read(Path(name))
