"""Comparisons that an annotator made more than once."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

SIDES = ["item_a", "item_b"]
KEYS = [*SIDES, "dimension", "annotator_id"]


def repeated_votes(path: Path) -> tuple[int, int]:
    """Votes beyond the first of an annotator on two images in a dimension.

    Args:
        path: a table of ``schemas.COMPARISONS``.

    Returns:
        Their number, and the number of annotators' pairs with votes for both images.
    """
    table = pq.read_table(path, columns=[*KEYS, "vote"])
    table = table.filter(table["annotator_id"].is_valid())
    votes = table.to_pandas(strings_to_categorical=True)
    if votes.empty:
        return 0, 0
    sides = [votes[side].cat for side in SIDES]
    names = sides[0].categories.union(sides[1].categories)
    first, second = (names.get_indexer(side.categories)[side.codes] for side in sides)
    leads = votes["vote"].astype(object).map({"a": 1, "b": -1}).fillna(0).to_numpy(dtype=int)
    votes = votes[["dimension", "annotator_id"]].assign(
        first=np.minimum(first, second),
        second=np.maximum(first, second),
        lead=np.where(first > second, -leads, leads),
    )
    key = ["first", "second", "dimension", "annotator_id"]
    repeated = votes[votes.duplicated(key, keep=False)]
    leads = repeated.groupby(key, observed=True)["lead"].agg(["min", "max"])
    return len(repeated) - len(leads), int(((leads["min"] < 0) & (leads["max"] > 0)).sum())
