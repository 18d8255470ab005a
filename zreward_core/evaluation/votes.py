"""Human preference accuracy on pairs known only from votes, which have no scores.

Shapes: P pairs, Q prompts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import ratio_interval, resample, sum_by_prompt
from zreward_core.evaluation.reference import OVERALL, finite


def vote_accuracy(
    predictions: Mapping[str, pd.DataFrame],
    pairs: pd.DataFrame,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """HPA (equation 17) of each model on pairs by votes: share of pairs ordered as voted.

    Ties are excluded, as pairs with equal scores are; a predicted tie is incorrect.

    Args:
        predictions: MODEL to item_id, dimension, mean.
        pairs: rows of ``schemas.VOTED_PAIRS`` without scores.
        seed: of the resamples.

    Returns:
        {MODEL: {"overall" | DIMENSION: {"hpa", "hpa_low", "hpa_high", "num_pairs", "num_ties"}}};
        an undefined number is None.

    Raises:
        ValueError: an item of a pair without a finite prediction.
    """
    prompts_P, prompts = pd.factorize(pairs["prompt_id"], sort=True)
    counts_RQ = resample(len(prompts), seed)
    won_P = pairs["vote_share"].to_numpy(dtype=float) > 0.5
    masks = {OVERALL: np.ones(len(pairs), dtype=bool)}
    masks |= {name: (pairs["dimension"] == name).to_numpy() for name in pairs["dimension"].unique()}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for model, frame in predictions.items():
        means = frame.set_index(["item_id", "dimension"])["mean"]
        winners_P, losers_P = (
            means.reindex(pd.MultiIndex.from_frame(pairs[[side, "dimension"]])).to_numpy(float)
            for side in ("winner", "loser")
        )
        if (missing_P := ~np.isfinite([winners_P, losers_P]).all(axis=0)).any():
            row = pairs.iloc[int(missing_P.argmax())]
            either = f"{row['winner']} or {row['loser']}"
            raise ValueError(f"{model}: {either} has no prediction, or one that is not finite")
        found[model] = {}
        for name, mask_P in masks.items():
            used_P = mask_P & won_P
            right_Q, total_Q = (
                sum_by_prompt(values_P, prompts_P, len(prompts))
                for values_P in ((winners_P > losers_P) & used_P, used_P)
            )
            interval = ratio_interval(right_Q, total_Q, counts_RQ)
            found[model][name] = {
                "hpa": finite(interval.value),
                "hpa_low": finite(interval.low),
                "hpa_high": finite(interval.high),
                "num_pairs": int(used_P.sum()),
                "num_ties": int((mask_P & ~won_P).sum()),
            }
    return found
