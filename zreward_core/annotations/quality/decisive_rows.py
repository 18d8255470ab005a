"""Large tables before a contract: the rows that decide whether it holds, found by columns.

An expectation about single rows holds for a table if and only if it holds for the rows that could
break it: those that do, the smallest and the largest value of a column with bounds, one row of each
value of a column with a closed list. They are found with a few passes over whole columns, and Great
Expectations judges and shows them; it would take minutes and gigabytes for all rows.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

LARGE = 250_000
"""Smaller tables are judged as a whole."""
MAX_ROWS = 10_000
"""Rows that break one expectation, at most so many are shown."""


def witnesses(frame: pd.DataFrame, expectations: list[Any]) -> pd.DataFrame:
    """The rows of a large table that decide about the expectations; a small table as it is."""
    if len(frame) <= LARGE:
        return frame
    found = [np.array([0])]
    for expectation in expectations:
        faulty, telling = _LOOK[type(expectation).__name__](frame, expectation)
        found += [np.flatnonzero(faulty)[:MAX_ROWS], np.asarray(telling, dtype=np.int64)]
    return frame.iloc[np.unique(np.concatenate(found))]


Found = tuple[np.ndarray, list[int]]
"""[N] whether a row breaks the expectation, and rows that come closest to it."""


def _nulls(frame: pd.DataFrame, expectation: Any) -> Found:
    return frame[expectation.column].isna().to_numpy(), []


def _between(frame: pd.DataFrame, expectation: Any) -> Found:
    values = frame[expectation.column].to_numpy(dtype=float)
    low = -np.inf if expectation.min_value is None else expectation.min_value
    high = np.inf if expectation.max_value is None else expectation.max_value
    known = ~np.isnan(values)
    ends = [int(np.nanargmin(values)), int(np.nanargmax(values))] if known.any() else []
    return known & ~((values >= low) & (values <= high)), ends


def _in_set(frame: pd.DataFrame, expectation: Any) -> Found:
    column = frame[expectation.column]
    faulty = column.notna() & ~column.isin(expectation.value_set)
    return faulty.to_numpy(), np.flatnonzero(~column.duplicated().to_numpy())[:MAX_ROWS].tolist()


def _regex(frame: pd.DataFrame, expectation: Any) -> Found:
    column = frame[expectation.column]
    codes, distinct = pd.factorize(column)
    texts = pa.array(pd.Series(distinct, dtype=object), pa.string())
    matched = pc.match_substring_regex(texts, expectation.regex).to_numpy(zero_copy_only=False)
    return ~np.append(matched.astype(bool), True)[codes], []  # the last is for nulls


def _unique(frame: pd.DataFrame, expectation: Any) -> Found:
    return frame.duplicated(expectation.column_list, keep=False).to_numpy(), []


def _greater(frame: pd.DataFrame, expectation: Any) -> Found:
    gaps = frame[expectation.column_A].to_numpy(float) - frame[expectation.column_B].to_numpy(float)
    faulty = ~((gaps >= 0) if expectation.or_equal else (gaps > 0))
    return faulty, [int(np.nanargmin(gaps))] if (~np.isnan(gaps)).any() else []


def _equal(frame: pd.DataFrame, expectation: Any) -> Found:
    ours, theirs = frame[expectation.column_A], frame[expectation.column_B]
    if isinstance(ours.dtype, pd.CategoricalDtype) and ours.dtype != theirs.dtype:
        ours, theirs = ours.astype(object), theirs.astype(object)
    both_missing = ours.isna() & theirs.isna()
    return (~((ours == theirs).fillna(False) | both_missing)).to_numpy(dtype=bool), []


_LOOK = {
    "ExpectColumnValuesToNotBeNull": _nulls,
    "ExpectColumnValuesToBeBetween": _between,
    "ExpectColumnValuesToBeInSet": _in_set,
    "ExpectColumnValuesToMatchRegex": _regex,
    "ExpectCompoundColumnsToBeUnique": _unique,
    "ExpectColumnPairValuesAToBeGreaterThanB": _greater,
    "ExpectColumnPairValuesToBeEqual": _equal,
}
