"""Rows whose prompt is too long for a model are left out and logged.

In training, labelling, evaluation and promotion; ``RewardModel.score`` raises an error for them.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from zreward_core.config import UserError
from zreward_core.models.loading import load_chat
from zreward_core.models.prompts import ChatFormat, PromptTooLong

logger = logging.getLogger(__name__)
SHORT = 3
"""A text has at most this many tokens per byte: normalisation can triple it."""
NUM_LISTED = 10
"""Prompts that a message lists."""


def without_long_prompts(chat: ChatFormat, rows: pd.DataFrame, source: object) -> pd.DataFrame:
    """Rows with a prompt of at most ``chat.max_prompt_tokens``; the others are logged.

    Args:
        rows: a table with the column ``prompt``.
        source: its file, for the messages.

    Raises:
        UserError: there are rows, and none is left.
    """
    reasons = {}
    for text in rows["prompt"].unique():
        if SHORT * len(text.encode()) > chat.max_prompt_tokens:
            try:
                chat.prompt(text)
            except PromptTooLong as error:
                reasons[text] = str(error)
    if not reasons:
        return rows
    kept = rows[~rows["prompt"].isin(reasons.keys())]
    listed = "\n  ".join(list(reasons.values())[:NUM_LISTED])
    message = (
        f"{source}: {len(rows) - len(kept)} of {len(rows)} rows have too long prompts and are left"
        f" out ({len(reasons)} prompts):\n  {listed}"
    )
    if kept.empty:
        raise UserError(message)
    logger.warning("%s", message)
    return kept


def short_for_all(models: Iterable[Path], rows: pd.DataFrame, source: object) -> pd.DataFrame:
    """The rows that ``without_long_prompts`` keeps for every one of some model folders."""
    for folder in models:
        rows = without_long_prompts(load_chat(folder), rows, f"{source}, for {folder}")
    return rows


def short_enough(chat: ChatFormat, prompts: list[str], source: object) -> list[str]:
    """The prompts that ``without_long_prompts`` keeps."""
    table = pd.DataFrame({"prompt": prompts})
    return without_long_prompts(chat, table, source)["prompt"].tolist()
