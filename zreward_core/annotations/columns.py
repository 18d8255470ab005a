"""Ratings as columns of codes: ten million rows are a few hundred megabytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zreward_core.config import UserError
from zreward_core.schemas import RATINGS

CODED = (
    "item_id",
    "prompt_id",
    "prompt",
    "image_id",
    "generator",
    "dimension",
    "annotator_id",
    "source",
)
"""Columns whose values repeat."""


def read_ratings(path: Path) -> pd.DataFrame:
    """Read a table of ``schemas.RATINGS``; texts that repeat are categories, sorted.

    Raises:
        UserError: the file is missing or is no such table.
    """
    if not path.is_file():
        raise UserError(
            f"{path} not found: run the stage that makes it (`zreward {path.parent.name}`)"
        )
    try:
        table = pq.read_table(path, read_dictionary=list(CODED))
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from None
    missing = sorted(set(RATINGS.names) - set(table.column_names))
    if missing:
        raise UserError(f"{path} lacks the columns {missing}: make it again")
    columns = {}
    for name in RATINGS.names:
        column = table[name]
        coded = pa.types.is_dictionary(column.type)
        columns[name] = _categories(column) if coded else column.to_pandas()
        table = table.drop_columns(name)  # memory of what has been converted is free at once
    return pd.DataFrame(columns, copy=False)


def _categories(column: pa.ChunkedArray) -> pd.Categorical:
    column = column.unify_dictionaries()
    values = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    order = pc.sort_indices(values).to_numpy()
    ranks = np.append(np.argsort(order), -1).astype(np.int32)
    parts = [pc.fill_null(one.indices, -1).to_numpy() for one in column.chunks]
    codes = ranks[np.concatenate(parts)] if parts else np.array([], dtype=np.int32)
    return pd.Categorical.from_codes(codes, values.take(pa.array(order)).to_pandas())
