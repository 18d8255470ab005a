"""From single ratings to one score and one histogram per item and dimension.

Shapes: N ratings, K items (of one dimension each), S levels, U distinct scores.
"""

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from zreward_core.annotations.items.ratings_table import coded, decoded
from zreward_core.rubric import Rubric

Resubmissions = Literal["average", "last", "keep"]
SUBMISSION = ["item_id", "dimension", "annotator_id"]
"""Key of a submission; several rows with one key are resubmissions."""
MIN_TO_TRIM = 3
"""Ratings that an item needs for dropping the highest and the lowest."""


def merge_resubmissions(
    ratings: pd.DataFrame, how: Resubmissions, times_N: np.ndarray
) -> pd.DataFrame:
    """Merge ratings to one per annotator, item and dimension.

    Args:
        ratings: rows of ``schemas.RATINGS``; anonymous votes (no annotator) are unchanged.
        how: "average" the scores, take the "last" by time of submission, or "keep" all.
        times_N: [N] times of submission (``times.parse_times``); unknown ones come before the
            others, equal ones in the order of the rows.

    Returns:
        item_id, dimension, annotator_id, score, in order of first appearance.
    """
    columns = [*SUBMISSION, "score"]
    if how == "keep" or not (again := resubmitted(ratings)).any():
        return ratings[columns].reset_index(drop=True)
    if how == "last":
        ordered = ratings.iloc[np.argsort(times_N, kind="stable")]
        last = ~ordered.duplicated(SUBMISSION, keep="last") | ordered["annotator_id"].isna()
        return ordered.loc[last, columns].sort_index().reset_index(drop=True)
    means = ratings.groupby(SUBMISSION, sort=False)["score"].transform("mean")
    named = ratings["annotator_id"].notna()
    merged = ratings[columns].assign(score=means.where(named, ratings["score"]))
    return merged[~again].reset_index(drop=True)


def resubmitted(ratings: pd.DataFrame) -> np.ndarray:
    """[N] whether a rating has an earlier one of the same annotator, item and dimension."""
    key = np.zeros(len(ratings), dtype=np.int64)
    for name in SUBMISSION:
        codes, names = coded(ratings[name])
        key *= len(names) + 1
        key += codes
        key += 1
    return pd.Series(key).duplicated().to_numpy() & ratings["annotator_id"].notna().to_numpy()


def aggregate(ratings: pd.DataFrame, trim: pd.Series, rubric: Rubric) -> pd.DataFrame:
    """Aggregate the ratings of each item and dimension.

    Args:
        ratings: item_id, dimension, score of included annotators.
        trim: for each rating, whether the highest and the lowest score of its item are dropped (as
            for the paper's test items), if it has at least ``MIN_TO_TRIM``; the same for all
            ratings of an item.
        rubric: gives the levels of the histogram.

    Returns:
        A row per item and dimension: item_id, dimension, score (mean of the kept scores), histogram
        (of the kept scores, [S]), num_ratings (before trimming), num_kept.
    """
    items_N, items = coded(ratings["item_id"])
    dimensions_N, dimensions = coded(ratings["dimension"])
    places_N, values_U = pd.factorize(ratings["score"].to_numpy(dtype=float), sort=True)
    num_dimensions, num_values = max(1, len(dimensions)), max(1, len(values_U))
    units_N = items_N.astype(np.int64) * num_dimensions + dimensions_N
    trimmed = np.zeros(len(items) * num_dimensions, dtype=bool)
    trimmed[units_N[trim.to_numpy(dtype=bool)]] = True
    units_N *= num_values
    units_N += places_N
    units_N.sort()  # by item and dimension, then by score: faster than an order of the rows
    units_N, places_N = np.divmod(units_N, num_values)
    first_N = np.ones(len(units_N), dtype=bool)
    first_N[1:] = units_N[1:] != units_N[:-1]
    starts_K = np.flatnonzero(first_N)
    groups_K = units_N[starts_K]
    numbers_K = np.diff(np.append(starts_K, len(units_N)))
    trimmed_K = trimmed[groups_K] & (numbers_K >= MIN_TO_TRIM)
    kept_N = np.ones(len(units_N), dtype=bool)
    kept_N[starts_K[trimmed_K]] = False
    kept_N[(starts_K + numbers_K - 1)[trimmed_K]] = False
    codes_N = (np.cumsum(first_N, dtype=np.int32) - 1)[kept_N]
    places_N = places_N[kept_N]
    num_kept_K = numbers_K - 2 * trimmed_K
    return pd.DataFrame(
        {
            "item_id": decoded(groups_K // num_dimensions, items, ratings["item_id"]),
            "dimension": decoded(groups_K % num_dimensions, dimensions, ratings["dimension"]),
            "score": np.bincount(codes_N, values_U[places_N], len(groups_K)) / num_kept_K,
            "histogram": list_column(histograms(codes_N, places_N, values_U, rubric)),
            "num_ratings": numbers_K,
            "num_kept": num_kept_K,
        }
    )


def histograms(
    codes_N: np.ndarray, places_N: np.ndarray, values_U: np.ndarray, rubric: Rubric
) -> np.ndarray:
    """``Rubric.histogram`` of many items at once.

    Args:
        codes_N: item of each score; every number from 0 to K - 1, in order.
        places_N: place of each score among the values, in order for each item.
        values_U: distinct scores within the scale.
        rubric: gives the levels.

    Returns:
        [K, S] shares; each row sums to one.
    """
    if len(codes_N) == 0:
        return np.zeros((0, len(rubric.levels)))
    shares_US = np.stack([rubric.histogram([value]) for value in values_U])
    first_N = np.ones(len(codes_N), dtype=bool)
    first_N[1:] = (codes_N[1:] != codes_N[:-1]) | (places_N[1:] != places_N[:-1])
    starts = np.flatnonzero(first_N)
    counts = np.diff(np.append(starts, len(codes_N))).astype(float)
    num_distinct_K = np.bincount(codes_N[starts])
    counts_KU = sparse.csr_matrix(
        (counts, places_N[starts], np.append(0, np.cumsum(num_distinct_K))),
        shape=(len(num_distinct_K), len(values_U)),
    )
    return (counts_KU @ shares_US) / np.bincount(codes_N).reshape(-1, 1)


def list_column(values_KS: np.ndarray) -> pd.Series:
    """A column of lists from [K, S] values, without a Python object per row."""
    num_rows, length = values_KS.shape
    offsets = pa.array(np.arange(num_rows + 1) * length, type=pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.array(values_KS.ravel()))
    return pd.Series(lists, dtype=pd.ArrowDtype(lists.type))
