"""Train, validation or test split, derived from the prompt, else the image (no split file)."""

import hashlib

import numpy as np
import pandas as pd

from zreward_core.config import Splits, UserError
from zreward_core.schemas import normalise_prompt

SPLITS = ("train", "validation", "test")


def split_of(prompt: str | None, splits: Splits, image_id: str | None = None) -> str:
    """Split of an item by a hash of its normalised prompt.

    Args:
        prompt: the prompt; None or blank in studies without prompts.
        splits: shares of the prompts.
        image_id: used instead of a missing prompt; the item id where the image is absent.

    Returns:
        "train", "validation" or "test"; independent of seeds, order and other prompts.
    """
    text = normalise_prompt(prompt) if isinstance(prompt, str) else ""
    key = f"split\x1f{text}" if text else f"split image\x1f{image_id or ''}"
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    if place < splits.train:
        return "train"
    return "validation" if place < splits.train + splits.validation else "test"


def splits_of(prompts: pd.Series, image_ids: pd.Series, splits: Splits) -> pd.Series:
    """Split of each item of a table; each distinct prompt is hashed once."""
    codes, distinct = pd.factorize(prompts)
    found = [split_of(prompt, splits) if prompt.strip() else None for prompt in distinct]
    result = pd.Series(np.array([*found, None], dtype=object)[codes], index=prompts.index)
    without_prompt = result.isna()
    result[without_prompt] = [
        split_of(None, splits, identifier if isinstance(identifier, str) else None)
        for identifier in image_ids[without_prompt]
    ]
    return result


def check_splits(
    described: pd.DataFrame, items: pd.DataFrame, splits: Splits, min_test_ratings: int
) -> None:
    """Reject an empty test split, and another one if its share amounts to at least one prompt.

    Studies whose images are all absent are only measured (agreement), and may have empty splits.

    Args:
        described: prompt_id, image_id and split of all items.
        items: rows of ``schemas.ITEMS``, without the test items that have too few ratings.
        splits: shares of the prompts, or of the images of studies without prompts.
        min_test_ratings: ratings that a test item needs.

    Raises:
        UserError: a split is empty; the message names the param.
    """
    usable = described[described["image_id"].notna()]
    if usable.empty or items.empty:
        return
    prompts = usable["prompt_id"].astype(object)
    number = prompts.where(prompts.notna(), usable["image_id"]).nunique()
    shares = {"train": splits.train, "validation": splits.validation}
    shares["test"] = 1 - sum(shares.values())
    for name, share in shares.items():
        if (items["split"] == name).any():
            continue
        if (usable["split"] == name).any():
            least, param = 1, "validate.min_agreement"
            if name == "test":
                least, param = min_test_ratings, "validate.min_test_ratings"
            raise UserError(
                f"the {name} split is empty: none of its {(usable['split'] == name).sum()} items"
                f" has {least} ratings of included annotators; lower '{param}' in params.yaml or"
                " collect more ratings"
            )
        if share * number >= 1 or name == "test":
            param, change = f"splits.{name}", "raise"
            if name == "test":
                param, change = "splits.train' or 'splits.validation", "lower"
            raise UserError(
                f"the {name} split is empty: none of the {number} prompts is in its share of"
                f" {share:.3g}; {change} '{param}' in params.yaml or add prompts"
            )
