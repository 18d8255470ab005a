"""Contract of pairs that are known from votes alone."""

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
        "Pairs follow from the comparisons: run `zreward ingest` and `zreward validate` again; if "
        "the error persists, report it as a bug",
    )
    contract.require_given("prompt_id")
    contract.require_in("a dimension is one of the rubric's", "dimension", rubric.names)
    unscored = pairs[["score_w", "score_l"]].isna().all(axis=1)
    contract.require("a pair by votes has no scores", unscored)
    half = pairs["vote_share"].between(0.5, 1.0)
    contract.require("the winner has at least half of the votes", half, "vote_share")
    contract.require("nothing wins against itself", pairs["winner"] != pairs["loser"])
    known = items[[*KEYS, "prompt_id", "split", "image_id"]].astype(object).set_index(KEYS)
    for side in ("winner", "loser"):
        facts = pairs[[side, "dimension"]].join(known, on=[side, "dimension"])
        for name in ("prompt_id", "split"):
            equal = pairs[name].to_numpy() == facts[name].to_numpy()
            contract.require(f"{name} is {name}_of_{side}", equal, name)
        contract.require(f"the {side} has an image", facts["image_id"].notna())
    places = items.groupby("prompt_id", observed=True)["split"].nunique()
    shared = places.reindex(pairs["prompt_id"]).to_numpy()
    contract.require("splits never share a prompt", np.asarray(shared) == 1, "prompt_id")
    return contract
