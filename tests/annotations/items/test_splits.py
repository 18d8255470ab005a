"""Splits depend on the normalised prompt and nothing else."""

from collections import Counter

import pandas as pd
import pytest
from pydantic import ValidationError

from zreward_core.annotations.items.building import describe_items
from zreward_core.annotations.items.splits import SPLITS, check_splits, split_of, splits_of
from zreward_core.config import Splits, UserError

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


@pytest.mark.parametrize(("train", "validation"), [(0.8, 0.3), (1, 0), (0, 1), (0.9, 0.1)])
def test_shares_that_leave_no_test_split_are_refused(train: float, validation: float) -> None:
    with pytest.raises(ValidationError, match="add up to less than 1: the rest is the test split"):
        Splits(train=train, validation=validation)


def described(splits: list[str], image: str | None = "image", prompts: bool = True) -> pd.DataFrame:
    number = range(len(splits))
    return pd.DataFrame(
        {
            "prompt_id": [f"prompt {n}" if prompts else None for n in number],
            "image_id": [f"{image} {n}" if image else None for n in number],
            "split": splits,
        }
    )


@pytest.mark.parametrize("prompts", [True, False])
@pytest.mark.parametrize(
    ("there", "kept", "message"),
    [
        (["train"] * 9 + ["test"], ["train", "test"], "raise 'splits.validation'"),
        (["validation"] * 9 + ["test"], ["validation", "test"], "raise 'splits.train'"),
        (["train"] * 9 + ["validation"], ["train", "validation"], "lower 'splits.train' or"),
        (list(SPLITS) * 4, ["train", "validation"], "none of its 4 items has 3.*min_test_ratings"),
        (list(SPLITS) * 4, ["train", "test"], "none of its 4 items has 1 .*min_agreement"),
    ],
)
def test_an_empty_split_names_the_param(
    there: list[str], kept: list[str], message: str, prompts: bool
) -> None:
    with pytest.raises(UserError, match=message):
        check_splits(described(there, prompts=prompts), described(kept), SHARES, 3)


def test_splits_in_which_nothing_is_expected_may_be_empty() -> None:
    check_splits(described(list(SPLITS)), described(list(SPLITS)), SHARES, 3)
    test = described(["test"] * 9)
    check_splits(test, test, Splits(train=0, validation=0), 3)  # shares of 0
    check_splits(described(["test"] * 2), described(["test"]), SHARES, 3)  # less than one prompt
    with pytest.raises(UserError, match=r"none of the 1 prompts is in its share of 0\.6"):
        check_splits(described(["train"]), described(["train"]), SHARES, 3)  # cannot be evaluated
    check_splits(described(["train"] * 20, None), described(["train"]), SHARES, 3)  # no images
    check_splits(described(["train"] * 20), described([]), SHARES, 3)  # only comparisons


def test_items_without_prompt_and_image_are_spread_over_the_splits() -> None:
    columns = ["item_id", "prompt_id", "prompt", "image_id"]
    ratings = pd.DataFrame({name: [None] * 60 for name in columns}).astype("object")
    ratings["item_id"] = [f"item {number}" for number in range(60)]
    found = describe_items(ratings.astype("category"), pd.DataFrame(), SHARES)["split"]
    assert set(found) == set(SPLITS)
