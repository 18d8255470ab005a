"""The evaluation report: every model against the annotators, on held-out prompts.

Shapes: N items (an image judged on one dimension), S score levels, P pairs, Q prompts, R resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import NUM_RESAMPLES, Interval, ratio_interval, resample
from zreward_core.evaluation.preference import (
    MARGIN,
    agreements,
    counted_pairs,
    ece,
    nll,
    plcc,
    srcc,
)

OVERALL = "overall"
DIFFERENCES = (
    ("teacher", "zero_shot_reasoning"),
    ("student", "zero_shot"),
    ("teacher", "student"),
)
NUM_SPLITS = 20
"""Random halves of the annotators that the agreement is averaged over."""


@dataclass(frozen=True)
class Reference:
    """What predictions are compared with, as arrays."""

    keys: pd.MultiIndex
    """(item_id, dimension) of the N items."""
    dimensions_N: np.ndarray
    scores_N: np.ndarray
    histogram_NS: np.ndarray
    winners_P: np.ndarray
    """Position of each pair's first item among the N."""
    losers_P: np.ndarray
    pair_dimensions_P: np.ndarray
    pair_scores_P2: np.ndarray
    prompts_P: np.ndarray
    """Position of each pair's prompt among the Q."""
    counts_RQ: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """One model's predictions in the order of the reference's items."""

    means_N: np.ndarray
    probs_NS: np.ndarray | None = None
    output_tokens_N: np.ndarray | None = None


def evaluate_predictions(
    predictions: Mapping[str, pd.DataFrame],
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    ratings: pd.DataFrame | None = None,
    oracle: pd.DataFrame | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Any]:
    """Compare models with annotators on the test split.

    Args:
        predictions: MODEL to item_id, dimension, probs (S numbers), mean, output_tokens.
        items: rows of ``schemas.ITEMS`` of the test split.
        pairs: rows of ``schemas.PAIRS`` of the test split.
        ratings: item_id, dimension, annotator_id, score, for the annotators' agreement.
        oracle: item_id, dimension, score (continuous), the ceiling where there is one.
        seed: of the resamples and of the random halves.
        num_resamples: bootstrap resamples of prompts.

    Returns:
        {"models": {MODEL: {"overall" | DIMENSION: METRICS}}, "differences": {"A-B": {"hpa", "low",
        "high"}}, "reference": {"annotator_agreement": {...}, "oracle": {...}}} where METRICS are
        "hpa", "hpa_low", "hpa_high", "margin_hpa", "plcc", "srcc", "nll", "ece", "num_pairs" and
        "output_tokens". "overall" pools the pairs and items of all dimensions. A number that is
        undefined is None. Differences stand for those of ``DIFFERENCES`` whose models are there.

    Raises:
        ValueError: an item or a pair without a prediction, or with two.
    """
    reference = build_reference(items, pairs, seed, num_resamples)
    aligned = {
        name: align_prediction(frame, reference, name) for name, frame in predictions.items()
    }
    references: dict[str, Any] = {}
    if ratings is not None:
        references["annotator_agreement"] = annotator_agreement(ratings, reference, seed)
    if oracle is not None:
        means = _ordered(oracle, reference, "oracle")["score"].to_numpy(dtype=float)
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


def build_reference(
    items: pd.DataFrame, pairs: pd.DataFrame, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Reference:
    """Arrays of the test split, and the resamples that every model is measured with."""
    keys = pd.MultiIndex.from_frame(items[["item_id", "dimension"]])
    if keys.has_duplicates:
        raise ValueError("items hold an image twice for one dimension")
    prompts, prompts_P = np.unique(pairs["prompt_id"].to_numpy(dtype=str), return_inverse=True)
    positions = [
        keys.get_indexer(pd.MultiIndex.from_frame(pairs[[side, "dimension"]]))
        for side in ("winner", "loser")
    ]
    for side, found in zip(("winner", "loser"), positions, strict=True):
        if (found < 0).any():
            missing = pairs[side].iloc[int(np.argmax(found < 0))]
            raise ValueError(f"pairs name an item that is not among the items: {missing}")
    histograms = items["histogram"].to_list()
    return Reference(
        keys=keys,
        dimensions_N=items["dimension"].to_numpy(dtype=str),
        scores_N=items["score"].to_numpy(dtype=float),
        histogram_NS=np.stack(histograms).astype(float) if histograms else np.zeros((0, 1)),
        winners_P=positions[0],
        losers_P=positions[1],
        pair_dimensions_P=pairs["dimension"].to_numpy(dtype=str),
        pair_scores_P2=pairs[["score_w", "score_l"]].to_numpy(dtype=float),
        prompts_P=prompts_P,
        counts_RQ=resample(len(prompts), seed, num_resamples),
    )


def align_prediction(frame: pd.DataFrame, reference: Reference, name: str) -> Prediction:
    """Predictions in the reference's order.

    Raises:
        ValueError: an item without a prediction, or with two.
    """
    frame = _ordered(frame, reference, name)
    return Prediction(
        means_N=frame["mean"].to_numpy(dtype=float),
        probs_NS=np.stack(frame["probs"].to_list()).astype(float) if len(frame) else None,
        output_tokens_N=frame["output_tokens"].to_numpy(dtype=float),
    )


def measure(prediction: Prediction, reference: Reference) -> dict[str, dict[str, Any]]:
    """All metrics of one model, overall and for each dimension."""
    result = {}
    for name in [OVERALL, *dict.fromkeys(reference.dimensions_N.tolist())]:
        everything = name == OVERALL
        items_N = everything | (reference.dimensions_N == name)
        pairs_P = everything | (reference.pair_dimensions_P == name)
        result[name] = _measure_part(prediction, reference, items_N, pairs_P)
    return result


def difference(first: Prediction, second: Prediction, reference: Reference) -> dict[str, Any]:
    """HPA of the first model minus that of the second, on the same resamples of prompts."""
    leads_P = _right(first, reference).astype(float) - _right(second, reference)
    interval = _over_prompts(leads_P, reference, np.ones(len(leads_P), dtype=bool))
    return {
        "hpa": _plain(interval.value),
        "low": _plain(interval.low),
        "high": _plain(interval.high),
    }


def annotator_agreement(
    ratings: pd.DataFrame, reference: Reference, seed: int, num_splits: int = NUM_SPLITS
) -> dict[str, dict[str, Any]]:
    """How well one random half of an item's annotators predicts the other half.

    The test pairs are ordered by one half's mean and judged by the other's; with an odd number of
    annotators the smaller half predicts. Pairs that the judging half ties do not count; items with
    a single annotator are left out. The judging half is noisier than all annotators together, which
    models are measured against: a good model may stand above this line.

    Returns:
        The metrics of ``measure``, averaged over ``num_splits`` splits; "nll", "ece" and
        "output_tokens" are None, "num_pairs" is the mean number per split.
    """
    positions = reference.keys.get_indexer(
        pd.MultiIndex.from_frame(ratings[["item_id", "dimension"]])
    )
    scores = ratings["score"].to_numpy(dtype=float)[positions >= 0]
    positions = positions[positions >= 0]
    generator = np.random.default_rng(seed)
    splits = [
        split_means(positions, scores, len(reference.keys), generator) for _ in range(num_splits)
    ]
    result = {}
    for name in [OVERALL, *dict.fromkeys(reference.dimensions_N.tolist())]:
        items_N = (name == OVERALL) | (reference.dimensions_N == name)
        pairs_P = (name == OVERALL) | (reference.pair_dimensions_P == name)
        result[name] = _agreement_part(splits, reference, items_N, pairs_P)
    return result


def split_means(
    positions: np.ndarray, scores: np.ndarray, num_items: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores of two random halves of each item's ratings; NaN where a half is empty.

    Args:
        positions: item of each rating, 0 to num_items - 1.
        scores: score of each rating.

    Returns:
        [N] means of the predicting half (the smaller) and of the judging half.
    """
    order = np.lexsort((generator.random(len(positions)), positions))
    positions, scores = positions[order], scores[order]
    sizes_N = np.bincount(positions, minlength=num_items)
    starts_N = np.cumsum(sizes_N) - sizes_N
    first = np.arange(len(positions)) - starts_N[positions] < sizes_N[positions] // 2
    means = []
    for half in (first, ~first):
        sums_N = np.bincount(positions[half], weights=scores[half], minlength=num_items)
        counts_N = np.bincount(positions[half], minlength=num_items)
        means.append(np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), np.nan))
    return means[0], means[1]


def _agreement_part(
    splits: list[tuple[np.ndarray, np.ndarray]],
    reference: Reference,
    items_N: np.ndarray,
    pairs_P: np.ndarray,
) -> dict[str, Any]:
    num_prompts = reference.counts_RQ.shape[1]
    right, total, wide_right, wide_total = np.zeros((4, num_prompts))
    correlations = []
    for predicted_N, judged_N in splits:
        first, second = reference.winners_P, reference.losers_P
        sides = (predicted_N[first], predicted_N[second], judged_N[first], judged_N[second])
        known_P = pairs_P & ~np.isnan(np.stack(sides)).any(axis=0)
        agree_P = agreements(*sides)
        counted_P = known_P & counted_pairs(sides[2], sides[3])
        wide_P = known_P & counted_pairs(sides[2], sides[3], margin=MARGIN)
        right += _by_prompt(agree_P & counted_P, reference)
        total += _by_prompt(counted_P, reference)
        wide_right += _by_prompt(agree_P & wide_P, reference)
        wide_total += _by_prompt(wide_P, reference)
        known_N = items_N & ~np.isnan(predicted_N) & ~np.isnan(judged_N)
        halves = (predicted_N[known_N], judged_N[known_N])
        correlations.append((plcc(*halves), srcc(*halves)))
    linear, rank = np.mean(correlations, axis=0)
    return _entry(
        ratio_interval(right, total, reference.counts_RQ),
        margin_hpa=wide_right.sum() / wide_total.sum() if wide_total.sum() else float("nan"),
        plcc=float(linear),
        srcc=float(rank),
        num_pairs=round(total.sum() / len(splits)),
    )


def _measure_part(
    prediction: Prediction, reference: Reference, items_N: np.ndarray, pairs_P: np.ndarray
) -> dict[str, Any]:
    right_P = _right(prediction, reference)
    winner_scores_P, loser_scores_P = reference.pair_scores_P2.T
    counted_P = pairs_P & counted_pairs(winner_scores_P, loser_scores_P)
    wide_P = pairs_P & counted_pairs(winner_scores_P, loser_scores_P, margin=MARGIN)
    means, scores = prediction.means_N[items_N], reference.scores_N[items_N]
    probs, tokens = prediction.probs_NS, prediction.output_tokens_N
    histogram = reference.histogram_NS[items_N]
    undefined = float("nan")
    return _entry(
        _over_prompts(right_P, reference, pairs_P),
        margin_hpa=float(right_P[wide_P].mean()) if wide_P.any() else undefined,
        plcc=plcc(means, scores),
        srcc=srcc(means, scores),
        nll=nll(probs[items_N], histogram) if probs is not None else undefined,
        ece=ece(probs[items_N], histogram) if probs is not None else undefined,
        num_pairs=int(counted_P.sum()),
        output_tokens=(
            float(tokens[items_N].mean()) if tokens is not None and items_N.any() else undefined
        ),
    )


def _right(prediction: Prediction, reference: Reference) -> np.ndarray:
    return agreements(
        prediction.means_N[reference.winners_P],
        prediction.means_N[reference.losers_P],
        *reference.pair_scores_P2.T,
    )


def _over_prompts(values_P: np.ndarray, reference: Reference, pairs_P: np.ndarray) -> Interval:
    counted_P = pairs_P & counted_pairs(*reference.pair_scores_P2.T)
    return ratio_interval(
        _by_prompt(values_P * counted_P, reference),
        _by_prompt(counted_P, reference),
        reference.counts_RQ,
    )


def _by_prompt(values_P: np.ndarray, reference: Reference) -> np.ndarray:
    num_prompts = reference.counts_RQ.shape[1]
    return np.bincount(reference.prompts_P, weights=values_P.astype(float), minlength=num_prompts)


def _ordered(frame: pd.DataFrame, reference: Reference, name: str) -> pd.DataFrame:
    index = pd.MultiIndex.from_frame(frame[["item_id", "dimension"]])
    if index.has_duplicates:
        raise ValueError(f"{name}: two predictions for {index[index.duplicated()][0]}")
    positions = index.get_indexer(reference.keys)
    if (positions < 0).any():
        missing = reference.keys[int(np.argmax(positions < 0))]
        raise ValueError(f"{name}: {(positions < 0).sum()} items lack a prediction, e.g. {missing}")
    return frame.iloc[positions]


def _entry(interval: Interval, num_pairs: int, **metrics: float) -> dict[str, Any]:
    names = ("margin_hpa", "plcc", "srcc", "nll", "ece", "output_tokens")
    return {
        "hpa": _plain(interval.value),
        "hpa_low": _plain(interval.low),
        "hpa_high": _plain(interval.high),
        **{name: _plain(metrics.get(name, float("nan"))) for name in names},
        "num_pairs": num_pairs,
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
