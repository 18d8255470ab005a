"""Reading sources as the stage `ingest` does, without the stage."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from zreward_core.annotations.ingest.accounting import WRITTEN
from zreward_core.annotations.ingest.identities import Identities
from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.reading import read_file
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.summary import SourceSummary, count_resubmissions
from zreward_core.rubric import Rubric, load_rubric

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("ZREWARD_SHARED_DATA", REPOSITORY.parent / "shared/data"))


class Read:
    """All tables of a source and its counts."""

    def __init__(self, source: Source, rubric: Rubric, files: list[Path]) -> None:
        images, identities = ImageFolder(source.images), Identities()
        again = True
        while again:
            self.summary = SourceSummary()
            index = ItemIndex(source, images, identities)
            parts: dict[str, list[pa.Table]] = {name: [] for name in WRITTEN}
            for path in files:
                for judgements in read_file(path, source, rubric, index):
                    self.summary.add(judgements)
                    for name in WRITTEN:
                        parts[name].append(getattr(judgements, name))
            self.summary.add_references(index.missing, index.refused)
            again = any([images.settle(), identities.settle()])
        tables = {
            name: pa.concat_tables(parts[name]) if parts[name] else schema.empty_table()
            for name, schema in WRITTEN.items()
        }
        self.resubmissions = count_resubmissions(tables["ratings"]).get(source.name, 0)
        self.ratings: pd.DataFrame = tables["ratings"].to_pandas()
        self.comparisons: pd.DataFrame = tables["comparisons"].to_pandas()
        self.compared_items: pd.DataFrame = tables["compared_items"].to_pandas()
        self.opinions: pd.DataFrame = tables["opinions"].to_pandas()
        self.quarantine: pd.DataFrame = tables["quarantine"].to_pandas()


@pytest.fixture(scope="session")
def default_rubric() -> Rubric:
    """The rubric of the project."""
    return load_rubric(REPOSITORY / "data/rubric.yaml")


@pytest.fixture
def drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/drops of an empty project, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/drops")
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def read(drops: Path, default_rubric: Rubric) -> Callable[..., Read]:
    """Reads a file with some settings."""

    def reader(path: Path | str, **settings: Any) -> Read:
        path = Path(path)
        source = Source(**{"name": "study", "path": path, **settings})
        return Read(source, default_rubric, [path])

    return reader


@pytest.fixture
def public(drops: Path, default_rubric: Rubric) -> Iterator[Callable[..., Read]]:
    """Reads the real files of a public set."""

    def reader(folder: str, pattern: str, **settings: Any) -> Read:
        if not (SHARED / folder).is_dir():
            pytest.skip(f"{SHARED / folder} is absent; ZREWARD_SHARED_DATA names its parent")
        (drops / folder).symlink_to(SHARED / folder)
        source = Source(**{"name": folder, "path": drops / folder, **settings})
        return Read(source, default_rubric, sorted((drops / folder).glob(pattern)))

    yield reader
