"""Pairs from comparisons of images without scores.

A pair of scored images is derived from the scores (``pairs``); its votes only adjust equal ratings
(``half_point_adjustment``). If at least one image has no score in the dimension, only votes
are used: each annotator has one vote per pair and dimension, each anonymous vote counts separately,
and the image with more than half of the votes wins. Ties and "both bad" count half for each side;
equal shares are a tie.
"""

import numpy as np
import pandas as pd

from zreward_core.annotations.items.aggregation import Resubmissions
from zreward_core.annotations.items.ratings_table import codes_among
from zreward_core.schemas import ITEMS, VOTED_PAIRS

KEYS = ["item_id", "dimension"]
PAIR = ["prompt_id", "dimension", "first", "second"]
SHARE = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
"""Vote to the share of image a."""
TOLERANCE = 1e-9
"""Rounding error within which a share is one half."""


def unscored_comparisons(comparisons: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of which at least one image has no score in their dimension.

    Args:
        comparisons: rows of ``schemas.COMPARISONS``.
        items: rows of ``schemas.ITEMS``.
    """
    if comparisons.empty:
        return comparisons
    scored = _keys(items, pd.concat([comparisons["item_a"], comparisons["item_b"]]))
    sides = [
        pd.MultiIndex.from_frame(comparisons[[side, "dimension"]]).isin(scored)
        for side in ("item_a", "item_b")
    ]
    return comparisons[~(sides[0] & sides[1])]


def _keys(items: pd.DataFrame, used: pd.Series) -> pd.MultiIndex:
    """Item and dimension of the items with one of some ids."""
    known = codes_among(items["item_id"], pd.Index(used.unique())) >= 0
    return pd.MultiIndex.from_frame(items.loc[known, KEYS].astype(str))


def voted_pairs(
    comparisons: pd.DataFrame, facts: pd.DataFrame, resubmissions: Resubmissions
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Pairs by the votes of the comparisons.

    Args:
        comparisons: rows of ``schemas.COMPARISONS``.
        facts: prompt_id, image_id and split by item_id.
        resubmissions: how several votes of an annotator on one pair are merged: "average", the
            "last" in the order of the table, or "keep" all.

    Returns:
        Rows of ``schemas.VOTED_PAIRS`` without scores, sorted like those of ``make_pairs`` (the
        winner of a tie is the lower item_id), and counts of votes: without_prompt_or_image,
        different_prompts, same_image (these are excluded), repeated (merged votes of one
        annotator), and of pairs: contradicting (with votes for both images).
    """
    sides = {side: facts.reindex(comparisons[f"item_{side}"]) for side in "ab"}
    known = np.logical_and.reduce(
        [
            sides[side][name].notna().to_numpy()
            for side in "ab"
            for name in ("prompt_id", "image_id")
        ]
    )
    prompts = {side: sides[side]["prompt_id"].to_numpy(dtype=object) for side in "ab"}
    together = prompts["a"] == prompts["b"]
    distinct = comparisons["item_a"].to_numpy() != comparisons["item_b"].to_numpy()
    used = known & together & distinct
    counts = {
        "without_prompt_or_image": int((~known).sum()),
        "different_prompts": int((known & ~together).sum()),
        "same_image": int((known & together & ~distinct).sum()),
    }
    votes = comparisons[used]
    in_order = votes["item_a"] < votes["item_b"]
    share = votes["vote"].map(SHARE).astype(float)
    votes = pd.DataFrame(
        {
            "prompt_id": prompts["a"][used],
            "dimension": votes["dimension"],
            "first": votes["item_a"].where(in_order, votes["item_b"]),
            "second": votes["item_b"].where(in_order, votes["item_a"]),
            "annotator": votes["annotator_id"],
            "share": share.where(in_order, 1.0 - share),
            "split": sides["a"]["split"].astype(object).to_numpy()[used],
        }
    )
    single = _one_per_annotator(votes, resubmissions)
    pairs = single.groupby(PAIR, as_index=False).agg(
        share=("share", "mean"),
        least=("share", "min"),
        most=("share", "max"),
        split=("split", "first"),
    )
    counts["repeated"] = len(votes) - len(single)
    counts["contradicting"] = int(((pairs["least"] < 0.5) & (pairs["most"] > 0.5)).sum())
    ordered = pairs["share"] >= 0.5 - TOLERANCE
    pairs["winner"] = pairs["first"].where(ordered, pairs["second"])
    pairs["loser"] = pairs["second"].where(ordered, pairs["first"])
    tied = (pairs["share"] - 0.5).abs() < TOLERANCE
    larger = np.maximum(pairs["share"], 1.0 - pairs["share"])
    pairs = pairs.assign(score_w=np.nan, score_l=np.nan, vote_share=larger.mask(tied, 0.5))
    order = ["prompt_id", "dimension", "winner", "loser"]
    return pairs.sort_values(order, ignore_index=True)[VOTED_PAIRS.names], counts


def _one_per_annotator(votes: pd.DataFrame, resubmissions: Resubmissions) -> pd.DataFrame:
    """Votes with those of one annotator on one pair merged."""
    if resubmissions == "keep":
        return votes
    key = [*PAIR, "annotator"]
    named = votes[votes["annotator"].notna()]
    if resubmissions == "last":
        named = named.drop_duplicates(key, keep="last")
    else:
        named = named.groupby(key, as_index=False).agg({"share": "mean", "split": "first"})
    return pd.concat([named, votes[votes["annotator"].isna()]], ignore_index=True)


def unscored_items(pairs: pd.DataFrame, items: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Items of the pairs that are not among the scored ones.

    Args:
        pairs: result of ``voted_pairs``.
        items: rows of ``schemas.ITEMS``, all with scores.
        facts: prompt_id, prompt, image_id and split by item_id.

    Returns:
        Rows of ``schemas.ITEMS`` without score and histogram, with num_ratings 0.
    """
    sides = [
        pairs[[side, "dimension"]].rename(columns={side: "item_id"}) for side in ("winner", "loser")
    ]
    keys = pd.concat(sides).drop_duplicates(ignore_index=True)
    keys = keys[~pd.MultiIndex.from_frame(keys).isin(_keys(items, keys["item_id"]))]
    rows = keys.join(facts[["prompt_id", "prompt", "image_id", "split"]], on="item_id")
    rows = rows.assign(score=np.nan, histogram=None, num_ratings=0)
    return rows.sort_values(KEYS, ignore_index=True)[ITEMS.names]
