"""Reading of ratings with repeated texts as categories: ten million rows take a few 100 MB."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zreward_core.config import UserError
from zreward_core.schemas import RATINGS, how_to_make

CATEGORICAL = (
    "item_id",
    "prompt_id",
    "prompt",
    "image_id",
    "generator",
    "dimension",
    "annotator_id",
    "source",
)
"""Columns with repeated values."""
SORTED = ("item_id", "prompt_id", "dimension", "annotator_id")
"""Columns by which tables are sorted."""
NUM_READERS = 2
"""Columns read at a time; more would only take more memory."""


def read_ratings(path: Path, columns: Sequence[str] = tuple(RATINGS.names)) -> pd.DataFrame:
    """Read columns of a table of ``schemas.RATINGS``; repeated texts become categories.

    The categories of the ``SORTED`` columns are in order.

    Raises:
        UserError: the file is missing or not such a table.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: {how_to_make(path)}")
    try:
        found = pq.read_schema(path).names
        missing = sorted(set(RATINGS.names) - set(found))
        if missing:
            raise UserError(f"{path} lacks the columns {missing}: {how_to_make(path)}")
        with ThreadPoolExecutor(NUM_READERS) as pool:
            read = pool.map(partial(_read, path), columns)
            return pd.DataFrame(dict(zip(columns, read, strict=True)), copy=False)
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from None


def _read(path: Path, name: str) -> pd.Categorical | pd.Series:
    """One column, read alone to bound the memory."""
    repeated = [name] if name in CATEGORICAL else None
    column = pq.read_table(path, columns=[name], read_dictionary=repeated)[name]
    return _categories(column, name in SORTED) if repeated else column.to_pandas()


def _categories(column: pa.ChunkedArray, in_order: bool) -> pd.Categorical:
    column = column.unify_dictionaries()
    values = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    parts = [pc.fill_null(one.indices, -1).to_numpy() for one in column.chunks]
    codes = np.concatenate(parts) if parts else np.array([], dtype=np.int32)
    if in_order:
        order = pc.sort_indices(values).to_numpy()
        codes = np.append(np.argsort(order), -1).astype(np.int32)[codes]
        values = values.take(pa.array(order))
    return pd.Categorical.from_codes(codes, values.to_pandas())


def coded(values: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Code of each value, -1 if null, and the values by code: distinct ones, or all categories."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(), values.cat.categories
    codes, names = pd.factorize(values)
    return codes, pd.Index(names)


def decoded(codes: np.ndarray, names: pd.Index, like: pd.Series) -> pd.Series:
    """The values with some codes of ``coded``, of the type of the values that were coded."""
    return pd.Series(pd.Categorical.from_codes(codes, names)).astype(like.dtype)


def codes_among(values: pd.Series, categories: pd.Index) -> np.ndarray:
    """Index of each value among the categories, -1 if it is not one of them."""
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.categories.equals(categories):
        return values.cat.codes.to_numpy()
    return categories.get_indexer(values)


def facts_of(keys: pd.Series, facts: pd.DataFrame) -> pd.DataFrame:
    """The row of ``facts`` for each key, with the keys' index; every key must be known."""
    if isinstance(keys.dtype, pd.CategoricalDtype):
        places = facts.index.get_indexer(keys.cat.categories)[keys.cat.codes]
    else:
        places = facts.index.get_indexer(keys)
    assert (places >= 0).all()
    return facts.take(places).set_axis(keys.index)
