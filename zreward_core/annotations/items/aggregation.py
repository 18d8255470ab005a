"""From single ratings to one score and one histogram per item and dimension.

Shapes: N ratings, K items (of one dimension each), S levels, U distinct scores.
"""

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

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
        codes, names = pd.factorize(ratings[name])
        key = key * (len(names) + 1) + codes + 1
    return pd.Series(key).duplicated().to_numpy() & ratings["annotator_id"].notna().to_numpy()


def aggregate(ratings: pd.DataFrame, trim: pd.Series, rubric: Rubric) -> pd.DataFrame:
    """Aggregate the ratings of each item and dimension.

    Args:
        ratings: item_id, dimension, score of included annotators.
        trim: for each rating, whether the highest and the lowest score of its item are dropped (as
            for the paper's test items), if it has at least ``MIN_TO_TRIM``.
        rubric: gives the levels of the histogram.

    Returns:
        A row per item and dimension: item_id, dimension, score (mean of the kept scores), histogram
        (of the kept scores, [S]), num_ratings (before trimming), num_kept.
    """
    codes, keys = _group(ratings)
    numbers_K = np.bincount(codes, minlength=len(keys))
    scores = ratings["score"].to_numpy(dtype=float)
    places, values = pd.factorize(scores, sort=True)
    order = np.argsort(codes * len(values) + places)  # by group, then by score
    starts_K = np.cumsum(numbers_K) - numbers_K
    place = np.arange(len(order)) - starts_K[codes[order]]
    number = numbers_K[codes[order]]
    extreme = (place == 0) | (place == number - 1)
    dropped = extreme & (number >= MIN_TO_TRIM) & trim.to_numpy(dtype=bool)[order]
    kept = order[~dropped]
    histograms_KS = histograms(codes[kept], scores[kept], len(keys), rubric)
    num_kept_K = np.bincount(codes[kept], minlength=len(keys))
    sums_K = np.bincount(codes[kept], weights=scores[kept], minlength=len(keys))
    return keys.assign(
        score=sums_K / num_kept_K,
        histogram=list_column(histograms_KS),
        num_ratings=numbers_K,
        num_kept=num_kept_K,
    )


def histograms(
    codes_N: np.ndarray, scores_N: np.ndarray, num_items: int, rubric: Rubric
) -> np.ndarray:
    """``Rubric.histogram`` of many items at once.

    Args:
        codes_N: item of each score, from 0.
        scores_N: scores within the scale.
        num_items: number of items, K.
        rubric: gives the levels.

    Returns:
        [K, S] shares; each row sums to one.
    """
    if num_items == 0:
        return np.zeros((0, len(rubric.levels)))
    index_N, values_U = pd.factorize(scores_N, sort=True)
    shares_US = np.stack([rubric.histogram([value]) for value in values_U])
    counts_KU = sparse.coo_matrix(
        (np.ones(len(codes_N)), (codes_N, index_N)), shape=(num_items, len(values_U))
    ).tocsr()
    return (counts_KU @ shares_US) / np.asarray(counts_KU.sum(axis=1)).reshape(-1, 1)


def _group(ratings: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Number the (item, dimension) groups in the order of their first rating."""
    items, item_names = pd.factorize(ratings["item_id"])
    dimensions, dimension_names = pd.factorize(ratings["dimension"])
    codes, groups = pd.factorize(items * len(dimension_names) + dimensions)
    keys = pd.DataFrame(
        {
            "item_id": item_names.take(groups // max(1, len(dimension_names))),
            "dimension": dimension_names.take(groups % max(1, len(dimension_names))),
        }
    )
    return codes, keys


def list_column(values_KS: np.ndarray) -> pd.Series:
    """A column of lists from [K, S] values, without a Python object per row."""
    num_rows, length = values_KS.shape
    offsets = pa.array(np.arange(num_rows + 1) * length, type=pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.array(values_KS.ravel()))
    return pd.Series(lists, dtype=pd.ArrowDtype(lists.type))
