"""Half-point adjustment: what a person's comparisons say about images he rated the same.

Z-Reward (arXiv:2606.09076), annotation workflow, step 2: candidates of the same prompt in the same
bin are compared, and those that can be told apart move by half a point. Here a bin is one score of
one person: only his own votes, on images to which he gave the same score, move his ratings. A
image with more wins than losses within its bin goes one level up, one with more losses one level
down, and the rest stays. Votes across bins and votes of others change no rating.
"""

import numpy as np
import pandas as pd

from zreward_core.rubric import Rubric

WHO = ["annotator_id", "dimension"]


def adjust_by_comparisons(
    ratings: pd.DataFrame, comparisons: pd.DataFrame, rubric: Rubric
) -> tuple[pd.DataFrame, int]:
    """Move ratings by one level where the same person told equals apart.

    Args:
        ratings: item_id, dimension, annotator_id, score; one an annotator, item and dimension.
        comparisons: rows of ``schemas.COMPARISONS``; votes other than a and b move nothing.
        rubric: gives the levels; a score that is none of them, or the last one, stays.

    Returns:
        The ratings with adjusted scores, and how many were moved.
    """
    votes = comparisons[comparisons["vote"].isin(["a", "b"]) & comparisons["annotator_id"].notna()]
    if votes.empty:
        return ratings, 0
    scores = ratings.dropna(subset="annotator_id").drop_duplicates(["item_id", *WHO])
    for side in ("a", "b"):
        named = scores[["item_id", *WHO, "score"]].rename(
            columns={"item_id": f"item_{side}", "score": f"score_{side}"}
        )
        votes = votes.merge(named, on=[f"item_{side}", *WHO])
    votes = votes[(votes["score_a"] == votes["score_b"]) & (votes["item_a"] != votes["item_b"])]
    lead = votes["vote"].map({"a": 1, "b": -1}).astype(int)
    wins = pd.concat(
        [
            votes[[f"item_{side}", *WHO]]
            .rename(columns={f"item_{side}": "item_id"})
            .assign(wins=sign * lead)
            for side, sign in (("a", 1), ("b", -1))
        ]
    )
    net = wins.groupby(["item_id", *WHO])["wins"].sum().rename("net").reset_index()
    joined = ratings.merge(net, on=["item_id", *WHO], how="left")["net"]
    steps = np.sign(joined.fillna(0).to_numpy(dtype=float)).astype(int)
    adjusted = _step(ratings["score"].to_numpy(dtype=float), steps, rubric)
    moved = adjusted != ratings["score"].to_numpy()
    return ratings.assign(score=adjusted), int(moved.sum())


def _step(scores_N: np.ndarray, steps_N: np.ndarray, rubric: Rubric) -> np.ndarray:
    levels = np.asarray(rubric.levels)
    place_N = np.clip(np.searchsorted(levels, scores_N), 0, len(levels) - 1)
    target_N = levels[np.clip(place_N + steps_N, 0, len(levels) - 1)]
    return np.where((levels[place_N] == scores_N) & (steps_N != 0), target_N, scores_N)
