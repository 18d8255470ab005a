"""Annotator reliability: bias, noise and agreement with the others and with gold ratings.

Expects one rating per annotator, item and dimension (``aggregation.merge_resubmissions``).
Behavior over time is in ``rater_behavior``.

Shapes: N ratings, P annotators, D dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.annotations.quality.agreement import alpha_interval, ordinal_alpha
from zreward_core.annotations.quality.encoding import ANONYMOUS, EncodedRatings, encode


def annotator_reliability(
    ratings: pd.DataFrame | EncodedRatings,
    min_agreement: float,
    min_overlap: int,
    gold_annotators: Sequence[str] = (),
) -> pd.DataFrame:
    """Compare each annotator with the mean of the others and with the mean of the gold ratings.

    Args:
        ratings: item_id, dimension, annotator_id, score; anonymous votes (no id) count among the
            others and are not audited.
        min_agreement: annotators with a lower agreement are excluded; agreement with gold ratings
            takes precedence over agreement with the others.
        min_overlap: shared ratings that an agreement needs.
        gold_annotators: reference annotators; they are always included.

    Returns:
        A row per annotator, sorted: annotator_id, num_ratings, num_shared, bias (mean difference
        from the others, in rubric units), noise (its standard deviation), agreement (correlation
        with the others' mean, within dimensions; NaN with too few shared ratings), num_gold,
        gold_bias, gold_agreement (the same against gold), included.
    """
    encoded = encode(ratings)
    named_N = encoded.annotators_N != ANONYMOUS
    gold_P = np.isin(encoded.annotators.astype(str), list(gold_annotators))
    gold_N = named_N & np.append(gold_P, False)[encoded.annotators_N]
    others = _compare(encoded, rest_mean(encoded), named_N, min_overlap)
    golden = _compare(encoded, _mean_of(encoded, gold_N), named_N & ~gold_N, min_overlap)
    numbers = np.bincount(encoded.annotators_N[named_N], minlength=len(encoded.annotators))
    judged_by_gold = ~np.isnan(golden["agreement"])
    deciding = np.where(judged_by_gold, golden["agreement"], others["agreement"])
    return pd.DataFrame(
        {
            "annotator_id": encoded.annotators,
            "num_ratings": numbers,
            "num_shared": others["number"],
            "bias": others["bias"],
            "noise": others["noise"],
            "agreement": others["agreement"],
            "num_gold": golden["number"],
            "gold_bias": golden["bias"],
            "gold_agreement": golden["agreement"],
            "included": ~(deciding < min_agreement) | gold_P,
        }
    )


def enough_items(encoded: EncodedRatings, min_items: int) -> np.ndarray:
    """[P] whether an annotator has rated at least this many items."""
    if min_items <= 1:
        return np.ones(len(encoded.annotators), dtype=bool)
    named_N = encoded.annotators_N != ANONYMOUS
    rated = pd.DataFrame({"who": encoded.annotators_N[named_N], "item": encoded.items_N[named_N]})
    numbers_P = np.bincount(rated.drop_duplicates()["who"], minlength=len(encoded.annotators))
    return numbers_P >= min_items


def rest_mean(encoded: EncodedRatings) -> np.ndarray:
    """[N] mean of the other ratings of the same item and dimension; NaN without any."""
    units_N = encoded.units_N
    sums = np.bincount(units_N, weights=encoded.scores_N)
    numbers = np.bincount(units_N)
    others_N = numbers[units_N] - 1
    totals_N = sums[units_N] - encoded.scores_N
    return np.divide(totals_N, others_N, out=np.full(len(units_N), np.nan), where=others_N > 0)


def _mean_of(encoded: EncodedRatings, chosen_N: np.ndarray) -> np.ndarray:
    """[N] mean of the chosen ratings of the same item and dimension; NaN without any."""
    units_N = encoded.units_N
    size = int(units_N.max(initial=-1)) + 1
    sums = np.bincount(units_N[chosen_N], weights=encoded.scores_N[chosen_N], minlength=size)
    numbers = np.bincount(units_N[chosen_N], minlength=size)
    means = np.divide(sums, numbers, out=np.full(size, np.nan), where=numbers > 0)
    return means[units_N]


def _compare(
    encoded: EncodedRatings, reference_N: np.ndarray, of_N: np.ndarray, min_overlap: int
) -> dict[str, np.ndarray]:
    """[P] number of ratings with a reference, mean and spread of the difference, agreement."""
    used_N = of_N & ~np.isnan(reference_N)
    people_N, num_people = encoded.annotators_N[used_N], len(encoded.annotators)
    own_N, rest_N = encoded.scores_N[used_N], reference_N[used_N]
    number_P = np.bincount(people_N, minlength=num_people)

    def mean(values_N: np.ndarray) -> np.ndarray:
        sums_P = np.bincount(people_N, weights=values_N, minlength=num_people)
        return np.divide(sums_P, number_P, out=np.full(num_people, np.nan), where=number_P > 0)

    bias_P = mean(own_N - rest_N)
    noise_P = np.sqrt(mean((own_N - rest_N - bias_P[people_N]) ** 2))
    groups_N = people_N * len(encoded.dimensions) + encoded.dimensions_N[used_N]
    own_N, rest_N = _centred(own_N, groups_N), _centred(rest_N, groups_N)
    spread_P = np.sqrt(mean(own_N**2) * mean(rest_N**2))
    # Constant scores have no correlation: 1 if they are equal to the reference, else 0.
    equal_P = mean((encoded.scores_N[used_N] - reference_N[used_N]) ** 2) < 1e-12
    agreement_P = np.divide(
        mean(own_N * rest_N), spread_P, out=equal_P.astype(float), where=spread_P > 1e-12
    )
    agreement_P[number_P < max(min_overlap, 1)] = np.nan
    return {"number": number_P, "bias": bias_P, "noise": noise_P, "agreement": agreement_P}


def _centred(values_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """Values minus the mean of their group."""
    numbers = np.maximum(np.bincount(groups_N), 1)
    return values_N - (np.bincount(groups_N, weights=values_N) / numbers)[groups_N]


def alpha_by_dimension(
    ratings: pd.DataFrame | EncodedRatings, dimensions: list[str]
) -> dict[str, float | None]:
    """Ordinal alpha of each dimension; None where undefined."""
    encoded = encode(ratings, dimensions)
    return {
        name: _rounded(ordinal_alpha(*_units_and_scores(encoded, place)))
        for place, name in enumerate(dimensions)
    }


def alpha_intervals(
    ratings: pd.DataFrame | EncodedRatings, dimensions: list[str], seed: int
) -> dict[str, list[float | None]]:
    """[low, high] of each dimension's alpha (95 %, bootstrap over items)."""
    encoded = encode(ratings, dimensions)
    return {
        name: [_rounded(end) for end in alpha_interval(*_units_and_scores(encoded, place), seed)]
        for place, name in enumerate(dimensions)
    }


def _units_and_scores(encoded: EncodedRatings, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    chosen_N = encoded.dimensions_N == dimension
    return encoded.items_N[chosen_N], encoded.scores_N[chosen_N]


def audit_record(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The rows of a table for JSON: annotator to figures, None where undefined."""
    record = {}
    for row in table.to_dict("records"):
        name = str(row.pop("annotator_id"))
        record[name] = {str(key): _plain(value) for key, value in row.items()}
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _rounded(float(value))
    return value


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
