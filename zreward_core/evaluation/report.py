"""The evaluation report: every model against the annotators, on held-out prompts.

Shapes: N items (an image judged on one dimension), S score levels, P pairs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.agreement import annotator_agreement
from zreward_core.evaluation.bootstrap import Interval, ratio_interval
from zreward_core.evaluation.preference import (
    MARGIN,
    agreements,
    counted_pairs,
    ece,
    nll,
    plcc,
    srcc,
)
from zreward_core.evaluation.reference import (
    Prediction,
    Reference,
    align,
    align_prediction,
    build_reference,
    finite,
    metrics_entry,
)

DIFFERENCES = (
    ("teacher", "zero_shot_reasoning"),
    ("student", "zero_shot"),
    ("teacher", "student"),
)


def evaluate_predictions(
    predictions: Mapping[str, pd.DataFrame],
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    ratings: pd.DataFrame | None = None,
    oracle: pd.DataFrame | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare models with annotators on the test split.

    Args:
        predictions: MODEL to item_id, dimension, probs (S numbers), mean, output_tokens.
        items: rows of ``schemas.ITEMS`` of the test split.
        pairs: rows of ``schemas.PAIRS`` of the test split.
        ratings: item_id, dimension, annotator_id, score, for the agreement of the annotators.
        oracle: item_id, dimension, score (continuous), for the ceiling.
        seed: of the resamples and of the random halves.

    Returns:
        {"models": {MODEL: {"overall" | DIMENSION: METRICS}}, "differences": {"A-B": {"hpa", "low",
        "high"}}, "reference": {"annotator_agreement": {...}, "oracle": {...}}} where METRICS are
        "hpa", "hpa_low", "hpa_high", "margin_hpa", "plcc", "srcc", "nll", "ece", "num_pairs" and
        "output_tokens". "overall" pools the pairs and items of all dimensions. An undefined number
        is None. Differences are those of ``DIFFERENCES`` for which both models are present.

    Raises:
        ValueError: an item or a pair without a prediction, or with two.
    """
    reference = build_reference(items, pairs, seed)
    aligned = {
        name: align_prediction(frame, reference, name) for name, frame in predictions.items()
    }
    references: dict[str, Any] = {}
    if ratings is not None:
        references["annotator_agreement"] = annotator_agreement(ratings, reference, seed)
    if oracle is not None:
        means = align(oracle, reference, "oracle")["score"].to_numpy(dtype=float)
        references["oracle"] = measure(Prediction(means), reference)
    return {
        "models": {name: measure(prediction, reference) for name, prediction in aligned.items()},
        "differences": {
            f"{first}-{second}": difference(aligned[first], aligned[second], reference)
            for first, second in DIFFERENCES
            if first in aligned and second in aligned
        },
        "reference": references,
    }


def measure(prediction: Prediction, reference: Reference) -> dict[str, dict[str, Any]]:
    """All metrics of one model, overall and for each dimension."""
    return {
        name: _measure_part(prediction, reference, *masks)
        for name, masks in reference.parts().items()
    }


def difference(first: Prediction, second: Prediction, reference: Reference) -> dict[str, Any]:
    """HPA of the first model minus HPA of the second, on the same resamples of prompts."""
    leads_P = _right(first, reference).astype(float) - _right(second, reference)
    interval = _over_prompts(leads_P, reference, np.ones(len(leads_P), dtype=bool))
    return dict(zip(("hpa", "low", "high"), map(finite, interval), strict=True))


def _measure_part(
    prediction: Prediction, reference: Reference, items_N: np.ndarray, pairs_P: np.ndarray
) -> dict[str, Any]:
    right_P = _right(prediction, reference)
    scores_w_P, scores_l_P = reference.pair_scores_P2.T
    wide_P = pairs_P & counted_pairs(scores_w_P, scores_l_P, margin=MARGIN)
    means, scores = prediction.means_N[items_N], reference.scores_N[items_N]
    metrics = {"plcc": plcc(means, scores), "srcc": srcc(means, scores)}
    if wide_P.any():
        metrics["margin_hpa"] = float(right_P[wide_P].mean())
    if prediction.probs_NS is not None:
        distributions = prediction.probs_NS[items_N], reference.histogram_NS[items_N]
        metrics |= {"nll": nll(*distributions), "ece": ece(*distributions)}
    if prediction.output_tokens_N is not None and items_N.any():
        metrics["output_tokens"] = float(prediction.output_tokens_N[items_N].mean())
    num_pairs = int((pairs_P & counted_pairs(scores_w_P, scores_l_P)).sum())
    return metrics_entry(_over_prompts(right_P, reference, pairs_P), num_pairs, **metrics)


def _right(prediction: Prediction, reference: Reference) -> np.ndarray:
    return agreements(
        prediction.means_N[reference.winners_P],
        prediction.means_N[reference.losers_P],
        *reference.pair_scores_P2.T,
    )


def _over_prompts(values_P: np.ndarray, reference: Reference, pairs_P: np.ndarray) -> Interval:
    counted_P = pairs_P & counted_pairs(*reference.pair_scores_P2.T)
    return ratio_interval(
        reference.by_prompt(values_P * counted_P),
        reference.by_prompt(counted_P),
        reference.counts_RQ,
    )
