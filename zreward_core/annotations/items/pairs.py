"""Pairs of images of the same prompt with different scores."""

import pandas as pd

TOLERANCE = 1e-9
"""Rounding error within which means are equal."""


def make_pairs(items: pd.DataFrame) -> pd.DataFrame:
    """All pairs of items of one prompt and dimension whose scores differ.

    Items without prompt or image are left out: models cannot be trained on them.

    Args:
        items: rows of ``schemas.ITEMS``.

    Returns:
        Rows of ``schemas.PAIRS``, sorted by prompt, dimension, winner and loser.
    """
    columns = ["prompt_id", "dimension", "split", "item_id", "score"]
    usable = items[items["prompt_id"].notna() & items["image_id"].notna()][columns]
    winners = usable.rename(columns={"item_id": "winner", "score": "score_w"})
    losers = usable.rename(columns={"item_id": "loser", "score": "score_l"})
    pairs = winners.merge(losers, on=["prompt_id", "dimension", "split"])
    pairs = pairs[pairs["score_w"] > pairs["score_l"] + TOLERANCE]
    order = ["prompt_id", "dimension", "winner", "loser"]
    return pairs.sort_values(order, ignore_index=True)[
        ["prompt_id", "dimension", "winner", "loser", "score_w", "score_l", "split"]
    ]


def missing_pairs(items: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, str]:
    """Reasons why dimensions have no pairs.

    Args:
        items: rows of ``schemas.ITEMS``.
        pairs: rows of ``schemas.PAIRS`` made of them.

    Returns:
        Dimension (with items, but without a pair) to the reason.
    """
    found = {}
    for name, rows in items.groupby("dimension", observed=True):
        if (pairs["dimension"] == name).any():
            continue
        usable = rows[rows["prompt_id"].notna() & rows["image_id"].notna()]
        if rows["prompt_id"].isna().all():
            found[str(name)] = "no item has a prompt (`columns.prompt` of the sources)"
        elif usable.empty:
            found[str(name)] = "no item with a prompt has an image (`images` of the sources)"
        elif not usable.duplicated("prompt_id").any():
            found[str(name)] = "no prompt has two images; a pair is two images of one prompt"
        else:
            found[str(name)] = (
                "all images of a prompt have the same score; collect ratings of more annotators, "
                "on a finer scale, or comparisons"
            )
    return found
