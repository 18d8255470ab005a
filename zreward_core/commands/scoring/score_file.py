"""A file of scores: its columns, and the model and source in its metadata.

Shapes: N rows, D dimensions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.config import UserError, writable

METADATA = b"zreward_scores"
"""Key in the metadata of the schema."""
OVERALL = "overall"
NAMED = ("row", "place", "image", "prompt")
"""Columns that name an image."""


def score_schema(dimensions: Sequence[str], metadata: dict[str, Any]) -> pa.Schema:
    """Columns of a file of scores."""
    number, text = pa.float32(), pa.string()
    fields = [("row", pa.int64()), ("place", text), ("image", text), ("prompt", text)]
    for name in dimensions:
        fields += [(f"{name}_{value}", number) for value in ("mean", "std", "mass")]
        fields.append((f"{name}_probs", pa.list_(number)))
    fields += [(OVERALL, number), ("error", text)]
    fields += [("model_sha256", text), ("rubric_sha256", text)]
    content = json.dumps(metadata, sort_keys=True, allow_nan=False)
    return pa.schema(fields, metadata={METADATA: content.encode()})


@dataclass(frozen=True)
class ScoreFile:
    """A file that `zreward score` has written."""

    path: Path
    metadata: dict[str, Any]
    """Dimensions, weights, levels, hashes, source."""

    @property
    def dimensions(self) -> list[str]:
        """Names of the D dimensions."""
        return self.metadata["dimensions"]

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of all rows."""
        return pq.read_table(self.path, columns=list(columns)).to_pandas()

    def values(self, by: str, k: float | None = None) -> np.ndarray:
        """[N] mean of a dimension or overall, or its lower bound; NaN where there is no score.

        Args:
            by: a dimension, or "overall".
            k: for mean - k std (of overall: the weighted mean of those of the dimensions).

        Raises:
            UserError: there is no such dimension.
        """
        if by not in (OVERALL, *self.dimensions):
            raise UserError(
                f"--by {by}: {self.path} has {OVERALL}, {', '.join(self.dimensions)}; choose one"
            )
        if k is None:
            column = OVERALL if by == OVERALL else f"{by}_mean"
            return self.read([column])[column].to_numpy(dtype=float)
        names = self.dimensions if by == OVERALL else [by]
        weights = np.asarray(
            [self.metadata["weights"][self.dimensions.index(name)] for name in names]
        )
        if not weights.sum():  # one dimension of weight 0
            weights = np.ones(len(names))
        means, stds = (
            self.read([f"{name}_{what}" for name in names]).to_numpy(dtype=float)
            for what in ("mean", "std")
        )
        return (means - k * stds) @ weights / weights.sum()


def is_score_file(path: Path) -> bool:
    """Whether a Parquet file was written by `zreward score`."""
    try:
        return METADATA in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def open_scores(path: Path) -> ScoreFile:
    """A file of scores.

    Raises:
        UserError: it is missing or unreadable, was not written by `zreward score`, or lacks columns
            that it wrote.
    """
    shown = writable(str(path))
    if path.is_dir():
        raise UserError(f"{shown} is a folder: give a file of `zreward score`")
    if not path.is_file():
        raise UserError(f"{shown} is not found: write it with `zreward score`")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{shown} is not a readable Parquet file ({error}): write it with `zreward score`"
        ) from None
    content = (schema.metadata or {}).get(METADATA)
    if content is None:
        raise UserError(
            f"{shown} was not written by `zreward score`, or again by a program that drops its"
            " metadata (pandas; pyarrow keeps it): score its images first"
        )
    metadata = json.loads(content)
    for field in score_schema(metadata["dimensions"], {}):
        if field.name not in schema.names:
            raise UserError(
                f"{shown} lacks column {field.name}, which `zreward score` wrote: keep all columns"
            )
        found = schema.field(field.name).type
        if pa.types.is_floating(field.type) and not pa.types.is_floating(found):
            raise UserError(f"{shown}: column {field.name} has the type {found}: keep its numbers")
    return ScoreFile(path, metadata)


def check_output(
    path: Path, suffix: str, taken: Sequence[Path] = (), option: str = "--output"
) -> None:
    """Check the name of an output before hours of work.

    Raises:
        UserError: its suffix is another one, it is a folder or taken (an input, or another output),
            or its folder is missing.
    """
    shown = writable(str(path))
    if path.suffix != suffix:
        raise UserError(f"{option} {shown} must end with {suffix}")
    if path.is_dir():
        raise UserError(f"{option} {shown} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{option} {shown}: {writable(str(path.parent))} is not a folder, make it")
    if path.resolve() in [one.resolve() for one in taken]:
        raise UserError(f"{option} {shown} is an input or another output: choose another name")
