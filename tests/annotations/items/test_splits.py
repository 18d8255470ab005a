"""Splits depend on the normalised prompt and nothing else."""

from collections import Counter

import pandas as pd
import pytest
from pydantic import ValidationError

from zreward_core.annotations.items.splits import split_of, splits_of
from zreward_core.config import Splits

SHARES = Splits(train=0.3, validation=0.1)


def test_known_prompts_keep_their_split() -> None:
    # A change here moves items between the training and the test split of every team.
    prompts = ["a red circle", "a blue star", "two green squares", "a cat on a sofa"]
    assert [split_of(prompt, SHARES) for prompt in prompts] == [
        "train",
        "train",
        "validation",
        "test",
    ]


def test_prompts_that_count_as_the_same_share_a_split() -> None:
    for number in range(50):
        one = split_of(f"A Red  circle {number}", SHARES)
        assert one == split_of(f" a red circle {number}\n", SHARES)


def test_shares_are_met() -> None:
    counts = Counter(split_of(f"prompt {number}", SHARES) for number in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.3, abs=0.015)
    assert counts["validation"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_image_stands_in_for_a_missing_prompt() -> None:
    by_image = {split_of(None, SHARES, f"image {number}") for number in range(50)}
    assert by_image == {"train", "validation", "test"}
    assert split_of("a star", SHARES, "image 1") == split_of("a star", SHARES, "image 2")
    assert split_of("  ", SHARES, "image 7") == split_of(None, SHARES, "image 7")


def test_table_equals_single_calls() -> None:
    prompts = pd.Series([f"prompt {n % 7}" if n % 5 else None for n in range(40)])
    images = pd.Series([f"image {n}" if n % 10 else None for n in range(40)])
    expected = [
        split_of(
            prompt if isinstance(prompt, str) else None,
            SHARES,
            image if isinstance(image, str) else None,
        )
        for prompt, image in zip(prompts, images, strict=True)
    ]
    assert list(splits_of(prompts, images, SHARES)) == expected


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up to at most 1"):
        Splits(train=0.8, validation=0.3)
