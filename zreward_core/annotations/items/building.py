"""Items from ratings and opinions: prompt, image, split, score and histogram of each.

Shapes: N ratings.
"""

import numpy as np
import pandas as pd

from zreward_core.annotations.items.aggregation import aggregate
from zreward_core.annotations.items.opinions import opinion_items
from zreward_core.annotations.items.ratings_table import coded, codes_among, facts_of
from zreward_core.annotations.items.splits import SPLITS, splits_of
from zreward_core.config import Splits
from zreward_core.rubric import Rubric
from zreward_core.schemas import ITEMS

KEYS = ["item_id", "dimension"]


def describe_items(ratings: pd.DataFrame, opinions: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Prompt, image and split of each item, by item id, from its first judgement."""
    columns = ["item_id", "prompt_id", "prompt", "image_id"]
    facts = ratings[columns].drop_duplicates("item_id").astype({"item_id": "str"})
    facts = facts.set_index("item_id")
    if not opinions.empty:
        others = opinions[columns].drop_duplicates("item_id").set_index("item_id")
        facts = pd.concat([facts.astype("str"), others[~others.index.isin(facts.index)]])
    images = facts["image_id"]
    if images.isna().any():
        images = images.astype(object).where(images.notna(), facts.index.to_series())
    found = splits_of(facts["prompt"], images, splits)
    return facts.assign(split=pd.Categorical(found, categories=list(SPLITS)))


def make_items(
    ratings: pd.DataFrame,
    opinions: pd.DataFrame,
    facts: pd.DataFrame,
    rubric: Rubric,
    trim_test: bool,
    min_test_ratings: int,
) -> tuple[pd.DataFrame, int]:
    """Aggregate the ratings; items without ratings are made from their opinions.

    Args:
        ratings: item_id, dimension, score, split of the included ratings.
        opinions: rows of ``schemas.OPINIONS``.
        facts: ``describe_items``.
        rubric: gives dimensions and levels.
        trim_test: drop the highest and the lowest score of test items.
        min_test_ratings: ratings that a test item needs.

    Returns:
        Rows of ``schemas.ITEMS``, sorted by item and the rubric's dimensions, and the number of
        test items (of one dimension) dropped for too few ratings.
    """
    items = aggregate(ratings, (ratings["split"] == "test") & trim_test, rubric)
    if not opinions.empty:
        items = items.astype(dict.fromkeys(KEYS, "str"))
        items = pd.concat([items, opinion_items(opinions, rubric)], ignore_index=True)
        items = items.drop_duplicates(KEYS, ignore_index=True)
    items = pd.concat([items, facts_of(items["item_id"], facts)], axis="columns")
    few = (items["split"] == "test") & (items["num_ratings"] < min_test_ratings)
    place = codes_among(items["dimension"].astype("str"), pd.Index(rubric.names))
    items = items.assign(place=place)[~few].sort_values(["item_id", "place"], ignore_index=True)
    return items[ITEMS.names], int(few.sum())


def belong_to(ratings: pd.DataFrame, items: pd.DataFrame) -> np.ndarray:
    """[N] whether a rating is of one of the items."""
    units_N, units_K, number = units_of(ratings, items)
    found = np.zeros(number + 1, dtype=bool)
    found[units_K] = True
    return found[units_N]


def units_of(ratings: pd.DataFrame, items: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Code of item and dimension together, from 0, of ratings and of items.

    Returns:
        [N] codes of the ratings, [K] codes of the items, and their number, which is also the code
        of the items without ratings.
    """
    units_N, units_K, number = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), 1
    known_K = np.ones(len(items), dtype=bool)
    for name in KEYS:
        codes_N, names = coded(ratings[name])
        codes_K = codes_among(items[name], names)
        units_N, units_K = units_N * len(names) + codes_N, units_K * len(names) + codes_K
        known_K &= codes_K >= 0
        number *= len(names)
    return units_N, np.where(known_K, units_K, number), number
