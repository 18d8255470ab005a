"""Agreement of the annotators among themselves, by random split halves.

Shapes: N items (an image judged on one dimension), P pairs, Q prompts.
"""

from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import ratio_interval
from zreward_core.evaluation.preference import MARGIN, agreements, counted_pairs, plcc, srcc
from zreward_core.evaluation.reference import Reference, metrics_entry

NUM_SPLITS = 20
"""Random splits that the agreement is averaged over."""


def annotator_agreement(
    ratings: pd.DataFrame, reference: Reference, seed: int
) -> dict[str, dict[str, Any]]:
    """Accuracy with which one random half of an item's annotators predicts the other half.

    The test pairs are ordered by the mean of one half and evaluated against the other; with an odd
    number of annotators the smaller half predicts. Pairs that the evaluating half ties are
    excluded, as are items with a single annotator. Half of the annotators is a noisier reference
    than all of them, which models are evaluated against, so a good model can exceed this value.

    Returns:
        The metrics of ``report.measure``, averaged over ``NUM_SPLITS`` splits; "nll", "ece" and
        "output_tokens" are None, "num_pairs" is the mean number per split.
    """
    positions = reference.keys.get_indexer(
        pd.MultiIndex.from_frame(ratings[["item_id", "dimension"]])
    )
    scores = ratings["score"].to_numpy(dtype=float)[positions >= 0]
    positions = positions[positions >= 0]
    generator = np.random.default_rng(seed)
    splits = [
        split_means(positions, scores, len(reference.keys), generator) for _ in range(NUM_SPLITS)
    ]
    return {
        name: _agreement(splits, reference, *masks) for name, masks in reference.parts().items()
    }


def split_means(
    positions: np.ndarray, scores: np.ndarray, num_items: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores of two random halves of each item's ratings; NaN if a half is empty.

    Args:
        positions: item of each rating, 0 to num_items - 1.
        scores: score of each rating.
        num_items: N.
        generator: draws the halves.

    Returns:
        [N] means of the predicting half (the smaller) and of the evaluating half.
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


def _agreement(
    splits: list[tuple[np.ndarray, np.ndarray]],
    reference: Reference,
    items_N: np.ndarray,
    pairs_P: np.ndarray,
) -> dict[str, Any]:
    right, total, wide_right, wide_total = np.zeros((4, reference.counts_RQ.shape[1]))
    correlations = []
    for predicted_N, judged_N in splits:
        first, second = reference.winners_P, reference.losers_P
        sides = (predicted_N[first], predicted_N[second], judged_N[first], judged_N[second])
        known_P = pairs_P & ~np.isnan(np.stack(sides)).any(axis=0)
        agree_P = np.zeros(len(known_P), dtype=bool)
        agree_P[known_P] = agreements(*(side[known_P] for side in sides))
        counted_P = known_P & counted_pairs(sides[2], sides[3])
        wide_P = known_P & counted_pairs(sides[2], sides[3], margin=MARGIN)
        right += reference.by_prompt(agree_P & counted_P)
        total += reference.by_prompt(counted_P)
        wide_right += reference.by_prompt(agree_P & wide_P)
        wide_total += reference.by_prompt(wide_P)
        known_N = items_N & ~np.isnan(predicted_N) & ~np.isnan(judged_N)
        halves = (predicted_N[known_N], judged_N[known_N])
        correlations.append((plcc(*halves), srcc(*halves)))
    linear, rank = np.mean(correlations, axis=0)
    return metrics_entry(
        ratio_interval(right, total, reference.counts_RQ),
        margin_hpa=wide_right.sum() / wide_total.sum() if wide_total.sum() else float("nan"),
        plcc=float(linear),
        srcc=float(rank),
        num_pairs=round(total.sum() / len(splits)),
    )
