"""Contract of pairs known only from votes."""

from pathlib import Path

import numpy as np
import pandas as pd

from zreward_core.annotations.quality.contracts import KEYS, Contract
from zreward_core.rubric import Rubric


def votes_contract(
    pairs: pd.DataFrame, items: pd.DataFrame, rubric: Rubric, file: Path
) -> Contract:
    """Pairs by votes: one prompt and split, no scores, and the winner has at least half the votes.

    Args:
        pairs: rows of ``schemas.VOTED_PAIRS`` without scores.
        items: rows of ``schemas.ITEMS``, with and without scores.
        rubric: gives the dimensions.
        file: the file of the pairs.
    """
    contract = Contract(
        "votes",
        pairs,
        file,
        lambda row: f"{row['winner']} > {row['loser']}",
        "Pairs are derived from comparisons: run `zreward ingest` and `zreward validate` again; if "
        "the error persists, report it as a bug",
    )
    contract.require_given("prompt_id")
    contract.require_in("dimension is defined in the rubric", "dimension", rubric.names)
    unscored = pairs[["score_w", "score_l"]].isna().all(axis=1)
    contract.require("score_w and score_l are null", unscored)
    half = pairs["vote_share"].between(0.5, 1.0)
    contract.require("vote_share is between 0.5 and 1", half, "vote_share")
    contract.require("winner and loser are different items", pairs["winner"] != pairs["loser"])
    known = items[[*KEYS, "prompt_id", "split", "image_id"]].astype(object).set_index(KEYS)
    for side in ("winner", "loser"):
        facts = pairs[[side, "dimension"]].join(known, on=[side, "dimension"])
        for name in ("prompt_id", "split"):
            equal = pairs[name].to_numpy() == facts[name].to_numpy()
            contract.require(f"{name} equals the {name} of the {side}", equal, name)
        contract.require(f"the {side} has an image", facts["image_id"].notna())
    places = items.groupby("prompt_id", observed=True)["split"].nunique()
    shared = places.reindex(pairs["prompt_id"]).to_numpy()
    contract.require("each prompt is in one split", np.asarray(shared) == 1, "prompt_id")
    return contract
