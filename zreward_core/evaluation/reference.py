"""The test split and the predictions on it, as aligned arrays.

Shapes: N items (an image judged on one dimension), S score levels, P pairs, Q prompts, R resamples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import NUM_RESAMPLES, Interval, resample, sum_by_prompt
from zreward_core.schemas import NotFinite

OVERALL = "overall"


@dataclass(frozen=True)
class Reference:
    """Annotations that predictions are compared with."""

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
    """How often each prompt was drawn in each bootstrap resample."""

    def by_prompt(self, values_P: np.ndarray) -> np.ndarray:
        """Sum values of pairs by prompt, [Q]."""
        return sum_by_prompt(values_P, self.prompts_P, self.counts_RQ.shape[1])

    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Masks of the items [N] and pairs [P] of "overall" and of each dimension."""
        masks = {OVERALL: (np.full(len(self.keys), True), np.full(len(self.prompts_P), True))}
        for name in dict.fromkeys(self.dimensions_N.tolist()):
            masks[name] = (self.dimensions_N == name, self.pair_dimensions_P == name)
        return masks


@dataclass(frozen=True)
class Prediction:
    """One model's predictions in the order of the reference's items."""

    means_N: np.ndarray
    probs_NS: np.ndarray | None = None
    output_tokens_N: np.ndarray | None = None


def build_reference(
    items: pd.DataFrame, pairs: pd.DataFrame, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Reference:
    """Arrays of the test split, and the resamples shared by all models.

    Raises:
        ValueError: an item is listed twice, or a pair names an unknown item.
    """
    keys = pd.MultiIndex.from_frame(items[["item_id", "dimension"]])
    if keys.has_duplicates:
        raise ValueError(f"items: {keys[keys.duplicated()][0]} is listed twice")
    prompts, prompts_P = np.unique(pairs["prompt_id"].to_numpy(dtype=str), return_inverse=True)
    positions = {}
    for side in ("winner", "loser"):
        found = keys.get_indexer(pd.MultiIndex.from_frame(pairs[[side, "dimension"]]))
        if (found < 0).any():
            missing = pairs[side].iloc[int(np.argmax(found < 0))]
            raise ValueError(f"pairs: '{missing}' in column '{side}' is not among the items")
        positions[side] = found
    histograms = items["histogram"].to_list()
    return Reference(
        keys=keys,
        dimensions_N=items["dimension"].to_numpy(dtype=str),
        scores_N=items["score"].to_numpy(dtype=float),
        histogram_NS=np.stack(histograms).astype(float) if histograms else np.zeros((0, 1)),
        winners_P=positions["winner"],
        losers_P=positions["loser"],
        pair_dimensions_P=pairs["dimension"].to_numpy(dtype=str),
        pair_scores_P2=pairs[["score_w", "score_l"]].to_numpy(dtype=float),
        prompts_P=prompts_P,
        counts_RQ=resample(len(prompts), seed, num_resamples),
    )


def align_prediction(frame: pd.DataFrame, reference: Reference, name: str) -> Prediction:
    """Predictions in the reference's order.

    Raises:
        ValueError: an item without a prediction, or with two.
        NotFinite: a predicted mean or probability is NaN or infinite.
    """
    frame = align(frame, reference, name)
    means_N = frame["mean"].to_numpy(dtype=float)
    probs_NS = np.stack(frame["probs"].to_list()).astype(float) if len(frame) else None
    wrong_N = ~np.isfinite(means_N)
    if probs_NS is not None:
        wrong_N |= ~np.isfinite(probs_NS).all(axis=1)
    if wrong_N.any():
        row = int(wrong_N.argmax())
        raise NotFinite(
            f"{name}: {wrong_N.sum()} of {len(frame)} predictions are not finite, the first for"
            f" {reference.keys[row]} ({means_N[row]}); train the model again"
        )
    return Prediction(
        means_N=means_N,
        probs_NS=probs_NS,
        output_tokens_N=frame["output_tokens"].to_numpy(dtype=float),
    )


def align(frame: pd.DataFrame, reference: Reference, name: str) -> pd.DataFrame:
    """Rows of a table with item_id and dimension in the reference's order; errors as above."""
    index = pd.MultiIndex.from_frame(frame[["item_id", "dimension"]])
    if index.has_duplicates:
        raise ValueError(f"{name}: two predictions for {index[index.duplicated()][0]}")
    positions = index.get_indexer(reference.keys)
    if (positions < 0).any():
        missing = reference.keys[int(np.argmax(positions < 0))]
        raise ValueError(f"{name}: {(positions < 0).sum()} items lack a prediction, e.g. {missing}")
    return frame.iloc[positions]


def metrics_entry(interval: Interval, num_pairs: int, **metrics: float) -> dict[str, Any]:
    """One entry of the report: HPA with its interval and further metrics, None if undefined."""
    names = ("margin_hpa", "plcc", "srcc", "nll", "ece", "output_tokens")
    return {
        "hpa": finite(interval.value),
        "hpa_low": finite(interval.low),
        "hpa_high": finite(interval.high),
        **{name: finite(metrics.get(name, float("nan"))) for name in names},
        "num_pairs": num_pairs,
    }


def finite(value: float) -> float | None:
    """A number for JSON: None in place of NaN."""
    return None if np.isnan(value) else float(value)
