"""How much a run has to do, from the params, the rubric and the prompt files that are there."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from zreward_core.rubric import Rubric
from zreward_core.schemas import read_json

ASSUMED = {
    "annotation": 3_000,
    "unlabelled": 44_000,
    "generator_train": 2_000,
    "generator_eval": 400,
}
"""Prompts of a file that is not there yet."""
BYTES_PER_PIXEL = 1.6
"""Of a photograph as PNG."""
TABLES = (".csv", ".json", ".jsonl", ".parquet")
"""Suffixes of tables with a row for each image."""


@dataclass(frozen=True)
class Counts:
    """Prompts, images and judgements."""

    prompts: Mapping[str, int]
    """By purpose."""
    images: Mapping[str, int]
    """By purpose: annotation and unlabelled."""
    stored_images: int
    """Those whose bytes candidates stores; others stay where they are."""
    splits: tuple[float, float, float]
    """Shares of the annotated images for training, validation and test."""
    judgements: int
    """Ratings by people, of one image in one dimension each."""
    num_dimensions: int
    size: tuple[int, int]
    """(width, height) of the largest generated images."""
    assumed: tuple[str, ...]
    """Prompt files that are not there."""
    not_counted: tuple[str, ...] = ()
    """Folders and data sets of images that are not there, or whose images cannot be counted."""

    @property
    def training_images(self) -> int:
        """Annotated images for training."""
        return round(self.images["annotation"] * self.splits[0])

    @property
    def validation_images(self) -> int:
        """Annotated images for validation."""
        return round(self.images["annotation"] * self.splits[1])

    @property
    def test_images(self) -> int:
        """Annotated images for the test."""
        return round(self.images["annotation"] * self.splits[2])

    @property
    def image_bytes(self) -> float:
        """Of one of the largest images as PNG."""
        return self.bytes_of(self.size)

    def bytes_of(self, size: tuple[int, int]) -> float:
        """Of an image of a size (width, height) as PNG."""
        return BYTES_PER_PIXEL * size[0] * size[1]


def count(configs: Mapping[str, Any], rubric: Rubric) -> Counts:
    """Count what the configs of the stages ask for.

    Raises:
        UserError: a prompt file cannot be read.
    """
    read_prompts = importlib.import_module("zreward_core.stages.candidates").read_prompts
    candidates, assumed = configs["candidates"], list[str]()
    prompts = dict.fromkeys(ASSUMED, 0)
    for purpose, files in candidates.prompt_files.items():
        for path in files:
            if path.is_file():
                prompts[purpose] += len(read_prompts(path))
            else:
                prompts[purpose] += ASSUMED.get(purpose, 0)
                assumed.append(str(path))
    images, stored, not_counted = dict[str, int](), 0, list[str]()
    for purpose in ("annotation", "unlabelled"):
        copies = sum(getattr(one, purpose) for one in candidates.generators)
        images[purpose] = prompts[purpose] * copies
    stored = sum(images.values())
    for source in [*candidates.folders, *candidates.datasets]:
        number = given_images(source)
        if number is None:
            not_counted.append(str(source.path))
            continue
        images[source.purpose] += number
        stored += 0 if source.in_place else number
    splits, overlap = configs["annotate"].splits, configs["annotate"].overlap
    test = 1 - splits.train - splits.validation
    raters = splits.train * overlap.train + splits.validation * overlap.validation
    raters += test * overlap.test
    sizes = [one.size for one in candidates.generators] or [configs["finetune_generator"].size]
    return Counts(
        prompts=prompts,
        images=images,
        stored_images=stored,
        splits=(splits.train, splits.validation, test),
        judgements=round(images["annotation"] * raters * len(rubric.dimensions)),
        num_dimensions=len(rubric.dimensions),
        size=max(sizes, key=lambda size: size[0] * size[1]),
        assumed=tuple(assumed),
        not_counted=tuple(not_counted),
    )


def given_images(source: Any) -> int | None:
    """Images of a folder or data set of the user, from what lists them; None if that is not known.

    Nothing is opened but lists, tables and the metadata of Parquet files: archives are not counted.
    """
    path: Path = source.path
    if not hasattr(source, "split"):
        return len(read_json(source.listed)) if source.listed.is_file() else None
    if (path / "state.json").is_file():
        from datasets import load_from_disk  # slow to import

        return len(load_from_disk(str(path)))
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    own = [file for file in files if source.split in re.split(r"[-_.]", file.stem)]
    listed = [file for file in own or files if file.suffix in TABLES]
    if not all(file.is_file() for file in listed):
        return None
    return sum(map(_rows, listed)) or None


def _rows(table: Path) -> int:
    """Rows of a table."""
    if table.suffix == ".parquet":
        return pq.read_metadata(table).num_rows
    if table.suffix == ".csv":
        return len(pd.read_csv(table, usecols=[0]))
    if table.suffix == ".json" and table.read_text(encoding="utf-8").lstrip().startswith("["):
        return len(read_json(table))
    with table.open(encoding="utf-8") as lines:
        return sum(1 for line in lines if line.strip())
