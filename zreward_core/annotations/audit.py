"""Who may teach: each annotator's bias, noise and agreement with the others.

Works on one rating an annotator, item and dimension (``aggregation.merge_resubmissions``).
"""

from typing import Any

import numpy as np
import pandas as pd

from zreward_core.annotations.agreement import ordinal_alpha


def audit_annotators(ratings: pd.DataFrame, min_agreement: float, min_overlap: int) -> pd.DataFrame:
    """Compare each annotator with the mean of the others, where others rated the same.

    Args:
        ratings: item_id, dimension, annotator_id, score; anonymous votes (no id) count among the
            others and are not audited.
        min_agreement: annotators below it are not included.
        min_overlap: with fewer ratings that others share, an annotator cannot be judged.

    Returns:
        A row an annotator, sorted: annotator_id, num_ratings, num_shared, bias (mean difference
        from the others, in rubric units), noise (its standard deviation), agreement (correlation
        with the others' mean, within dimensions; NaN where it cannot be judged), included.
    """
    groups = ratings.groupby(["item_id", "dimension"], sort=False)["score"]
    totals, numbers = groups.transform("sum"), groups.transform("size")
    known = ratings[ratings["annotator_id"].notna()]
    named = known.assign(total=totals, number=numbers)
    shared = named[named["number"] >= 2]
    others = (shared["total"] - shared["score"]) / (shared["number"] - 1)
    table = _statistics(shared["annotator_id"], shared["dimension"], shared["score"], others)
    counts = known.groupby("annotator_id", sort=True).size().rename("num_ratings").to_frame()
    table = counts.join(table)
    table["num_shared"] = table["num_shared"].fillna(0).astype(int)
    table.loc[table["num_shared"] < min_overlap, "agreement"] = np.nan
    table["included"] = ~(table["agreement"] < min_agreement)
    return table.reset_index()


def _statistics(
    annotators: pd.Series, dimensions: pd.Series, scores: pd.Series, others: pd.Series
) -> pd.DataFrame:
    keys = [annotators.rename("annotator_id"), dimensions.rename("dimension")]
    own = scores - scores.groupby(keys).transform("mean")
    rest = others - others.groupby(keys).transform("mean")
    products = pd.DataFrame(
        {
            "annotator_id": annotators,
            "difference": scores - others,
            "both": own * rest,
            "own": own**2,
            "rest": rest**2,
        }
    ).groupby("annotator_id", sort=True)
    sums = products[["both", "own", "rest"]].sum()
    spread = (sums["own"] * sums["rest"]) ** 0.5
    # Someone who gives every item the same score agrees with nobody.
    agreement = (sums["both"] / spread.where(spread > 0)).fillna(0.0)
    return pd.DataFrame(
        {
            "num_shared": products.size(),
            "bias": products["difference"].mean(),
            "noise": products["difference"].std(ddof=0),
            "agreement": agreement,
        }
    )


def alpha_by_dimension(ratings: pd.DataFrame, dimensions: list[str]) -> dict[str, float | None]:
    """Ordinal alpha of each dimension; None where it is not defined."""
    result: dict[str, float | None] = {}
    for name in dimensions:
        part = ratings[ratings["dimension"] == name]
        units = pd.factorize(part["item_id"])[0]
        alpha = ordinal_alpha(units, part["score"].to_numpy())
        result[name] = None if np.isnan(alpha) else round(alpha, 6)
    return result


def audit_record(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The audit table for JSON: annotator to figures, None where they are not defined."""
    record = {}
    for row in table.to_dict("records"):
        figures = {
            key: (None if pd.isna(row[key]) else round(float(row[key]), 6))
            for key in ("bias", "noise", "agreement")
        }
        numbers = {key: int(row[key]) for key in ("num_ratings", "num_shared")}
        record[str(row["annotator_id"])] = {**numbers, **figures, "included": bool(row["included"])}
    return record
