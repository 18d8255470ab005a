"""Rows of totals: sums and averages that a table has below its records.

Shapes: N records.
"""

import numpy as np
import pyarrow as pa

from zreward_core.annotations.ingest.batch import Batch
from zreward_core.annotations.ingest.column_settings import Cell
from zreward_core.annotations.ingest.values import Texts, texts

LABELS = {
    "total",
    "totals",
    "grand total",
    "subtotal",
    "overall",
    "sum",
    "mean",
    "means",
    "average",
    "averages",
    "avg",
    "median",
    "std",
    "std dev",
    "std. dev",
    "stdev",
    "stddev",
    "standard deviation",
    "variance",
}
"""Cells that name a total, in small letters."""
SHARED = ("annotator_id", "item", "prompt", "generator")
"""Identifiers of a record, beside its images."""


def are_totals(batch: Batch) -> np.ndarray:
    """[N] whether a record is a total: an identifier is a label, and all others are empty or one.

    A prompt or an annotator alone can have such a name. Therefore a record is a total only if its
    label is an image, or if it has an empty identifier.
    """
    columns, number = batch.source.columns, len(batch.records)
    possible, labelled = np.ones(number, dtype=bool), np.zeros(number, dtype=bool)
    sure = np.zeros(number, dtype=bool)
    for name in SHARED:
        cell = getattr(columns, name)
        if _varies(cell):
            labels, empty = _labels(batch.shared[name])
            possible &= labels | empty
            labelled, sure = labelled | labels, sure | empty
    for name in ("image", "image_a", "image_b"):
        cell = getattr(columns, name)
        rows = np.flatnonzero(possible)
        if _varies(cell) and len(rows):
            column = batch.records.columns[cell.key].take(pa.array(rows))
            labels, empty = _labels(texts(column, cell))
            possible[rows] = labels | empty
            labelled[rows] |= labels
            sure[rows] = True
    return possible & labelled & sure


def _varies(cell: Cell | None) -> bool:
    """Whether a cell is read from a column, so that it can be empty."""
    return cell is not None and cell.column is not None


def _labels(column: Texts) -> tuple[np.ndarray, np.ndarray]:
    """[N] whether a text is a label, and [N] whether there is none."""
    known = [one.strip().rstrip(":.").casefold() in LABELS for one in column.listed()]
    return np.array([*known, False])[column.codes], column.codes < 0
