"""Half-point adjustment: an annotator's comparisons refine their equal ratings.

Z-Reward (arXiv:2606.09076), annotation workflow, step 2: candidates of the same prompt in the same
bin are compared, and distinguishable ones move by half a point. Here a bin is one score of one
annotator: only their own votes on images with equal scores change their ratings. An image with more
wins than losses within its bin moves one level up, one with more losses one level down. Votes
across bins and votes of other annotators do not change ratings. Several votes of an annotator on
the same two images count once, by their majority; equal numbers for both images cancel.
"""

import numpy as np
import pandas as pd

from zreward_core.rubric import Rubric

RATER = ["annotator_id", "dimension"]


def adjust_by_comparisons(
    ratings: pd.DataFrame, comparisons: pd.DataFrame, rubric: Rubric
) -> tuple[pd.DataFrame, int]:
    """Move equal ratings by one level according to the same annotator's comparisons.

    Args:
        ratings: item_id, dimension, annotator_id, score; one per annotator, item and dimension.
        comparisons: rows of ``schemas.COMPARISONS``; votes other than a and b have no effect.
        rubric: gives the levels; scores between levels, and moves past the last level, stay.

    Returns:
        The ratings with adjusted scores, and the number of changed ratings.
    """
    votes = comparisons[comparisons["vote"].isin(["a", "b"]) & comparisons["annotator_id"].notna()]
    if votes.empty:
        return ratings, 0
    scores = ratings.dropna(subset="annotator_id").drop_duplicates(["item_id", *RATER])
    for side in ("a", "b"):
        named = scores[["item_id", *RATER, "score"]].rename(
            columns={"item_id": f"item_{side}", "score": f"score_{side}"}
        )
        votes = votes.merge(named, on=[f"item_{side}", *RATER])
    votes = votes[(votes["score_a"] == votes["score_b"]) & (votes["item_a"] != votes["item_b"])]
    in_order = votes["item_a"] < votes["item_b"]
    votes = votes[RATER].assign(
        first=votes["item_a"].where(in_order, votes["item_b"]),
        second=votes["item_b"].where(in_order, votes["item_a"]),
        lead=np.where((votes["vote"] == "a") == in_order, 1, -1),
    )
    leads = votes.groupby([*RATER, "first", "second"], as_index=False, observed=True)["lead"].sum()
    wins = pd.concat(
        [
            leads[[side, *RATER]]
            .rename(columns={side: "item_id"})
            .assign(wins=sign * np.sign(leads["lead"]))
            for side, sign in (("first", 1), ("second", -1))
        ]
    )
    net = wins.groupby(["item_id", *RATER])["wins"].sum().rename("net").reset_index()
    joined = ratings.merge(net, on=["item_id", *RATER], how="left")["net"]
    steps = np.sign(joined.fillna(0).to_numpy(dtype=float)).astype(int)
    adjusted = _step(ratings["score"].to_numpy(dtype=float), steps, rubric)
    moved = adjusted != ratings["score"].to_numpy()
    return ratings.assign(score=adjusted), int(moved.sum())


def _step(scores_N: np.ndarray, steps_N: np.ndarray, rubric: Rubric) -> np.ndarray:
    levels = np.asarray(rubric.levels)
    place_N = np.clip(np.searchsorted(levels, scores_N), 0, len(levels) - 1)
    target_N = levels[np.clip(place_N + steps_N, 0, len(levels) - 1)]
    return np.where((levels[place_N] == scores_N) & (steps_N != 0), target_N, scores_N)
