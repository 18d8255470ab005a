"""The items on which annotators disagree most, for review or a clearer rubric.

Shapes: N ratings, K items (of one dimension each).
"""

import numpy as np
import pandas as pd

from zreward_core.annotations.quality.encoding import EncodedRatings
from zreward_core.schemas import DISAGREEMENT


def most_disputed(encoded: EncodedRatings, facts: pd.DataFrame, num_items: int) -> pd.DataFrame:
    """The items with the widest spread of ratings.

    Args:
        encoded: ratings of included annotators.
        facts: prompt_id, prompt, image_id and split by item id.
        num_items: maximal length of the list.

    Returns:
        Rows of ``schemas.DISAGREEMENT``, widest first: spread is the standard deviation of the
        ratings (n - 1), in rubric points; items with one rating or no difference are omitted.
    """
    units_N, scores_N = encoded.units_N, encoded.scores_N
    size = len(encoded.items) * len(encoded.dimensions)
    number_K = np.bincount(units_N, minlength=size)
    mean_K = np.bincount(units_N, weights=scores_N, minlength=size) / np.maximum(number_K, 1)
    squares_K = np.bincount(units_N, weights=(scores_N - mean_K[units_N]) ** 2, minlength=size)
    spread_K = np.sqrt(squares_K / np.maximum(number_K - 1, 1))
    disputed = np.flatnonzero((number_K >= 2) & (spread_K > 1e-9))
    if len(disputed) > num_items:  # ties are kept until sorting
        least = np.partition(spread_K[disputed], -num_items)[-num_items]
        disputed = disputed[spread_K[disputed] >= least]
    listed_K = np.zeros(size, dtype=bool)
    listed_K[disputed] = True
    kept_N = listed_K[units_N]
    ranges = pd.Series(scores_N[kept_N]).groupby(units_N[kept_N]).agg(["min", "max"])
    table = pd.DataFrame(
        {
            "item_id": encoded.items.take(disputed // len(encoded.dimensions)).astype("str"),
            "place": disputed % len(encoded.dimensions),
            "spread": spread_K[disputed].round(6),
            "lowest": ranges["min"].reindex(disputed).to_numpy(),
            "highest": ranges["max"].reindex(disputed).to_numpy(),
            "num_ratings": number_K[disputed],
        }
    )
    table["dimension"] = np.array([*encoded.dimensions, ""], dtype=object)[table["place"]]
    order = ["spread", "num_ratings", "item_id", "place"]
    table = table.sort_values(order, ascending=[False, False, True, True], ignore_index=True)
    return table.head(num_items).join(facts, on="item_id")[DISAGREEMENT.names]
