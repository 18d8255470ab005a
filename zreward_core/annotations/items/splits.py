"""Train, validation or test, by the prompt alone: no file of splits is needed."""

import hashlib

import pandas as pd

from zreward_core.config import Splits
from zreward_core.schemas import normalise_prompt

SPLITS = ("train", "validation", "test")


def split_of(prompt: str | None, splits: Splits, image_id: str | None = None) -> str:
    """Split of an item by a hash of its normalised prompt.

    Args:
        prompt: the prompt; None or blank in studies without prompts.
        splits: shares of the prompts.
        image_id: used instead of a missing prompt.

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
    prompts = prompts.astype(object).where(prompts.notna(), None)
    distinct = {prompt: split_of(prompt, splits) for prompt in prompts.unique() if prompt}
    result = prompts.map(distinct).astype(object)
    without_prompt = prompts.map(lambda prompt: not prompt or not prompt.strip())
    result[without_prompt] = [
        split_of(None, splits, identifier if isinstance(identifier, str) else None)
        for identifier in image_ids[without_prompt]
    ]
    return result
