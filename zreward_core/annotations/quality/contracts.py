"""Contracts of ratings, items and pairs.

The rules are checked by operations on whole columns. Expectations of Great Expectations would take
minutes and gigabytes on ten million ratings (`make bench-ingest`), so it only presents the results
(``data_docs``).

Shapes: N ratings, K items (of one dimension each), S levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.items.building import units_of
from zreward_core.annotations.items.ratings_table import coded
from zreward_core.annotations.items.splits import SPLITS
from zreward_core.rubric import Rubric

TOLERANCE = 1e-9
"""Rounding error allowed in sums and means."""
SHOWN_ROWS = 3
"""Rows listed in a message."""
KEYS = ["item_id", "dimension"]


@dataclass(frozen=True)
class Check:
    """Result of one rule."""

    rule: str
    num_broken: int
    examples: list[str]
    """The first rows that break the rule, with their values."""


@dataclass
class Contract:
    """A table, its rules and their results."""

    name: str
    table: pd.DataFrame
    file: Path
    """File of the table, for messages."""
    row_of: Callable[[pd.Series], str]
    """The name of a row, for messages."""
    remedy: str
    """How to correct rows that break a rule."""
    notes: Sequence[str] = ()
    """Markdown shown next to the results."""
    checks: list[Check] = field(default_factory=list)
    num_rows: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the rows, which are shown when the table is no longer there."""
        self.num_rows = len(self.table)

    def release(self) -> None:
        """Drop the table, once all rules are added; the results stay."""
        self.table = pd.DataFrame()

    def require(self, rule: str, sound: np.ndarray | pd.Series, column: str | None = None) -> None:
        """Add a rule.

        Args:
            rule: description of the rule.
            sound: whether each row satisfies it.
            column: column whose value is shown with a row that breaks the rule.
        """
        broken = np.flatnonzero(~np.asarray(sound, dtype=bool))
        rows = [self.table.iloc[row] for row in broken[:SHOWN_ROWS]]
        shown = [
            f"{self.row_of(row)}: {row[column]}" if column else self.row_of(row) for row in rows
        ]
        self.checks.append(Check(rule, len(broken), shown))

    def require_given(self, column: str) -> None:
        """No value is missing."""
        self.require(f"{column} is not null", self.table[column].notna(), column)

    def require_in(self, rule: str, column: str, allowed: Sequence[str]) -> None:
        """Values that are not missing belong to a set."""
        values = self.table[column]
        self.require(rule, values.isna() | values.isin(list(allowed)), column)

    def require_on_scale(self, column: str, rubric: Rubric) -> None:
        """Values that are not missing lie within the rubric's scale."""
        rule = f"{column} is between {rubric.minimum:g} and {rubric.maximum:g}"
        values = self.table[column].to_numpy(dtype=float)
        off = (values < rubric.minimum) | (values > rubric.maximum)  # false where missing
        self.require(rule, ~off, column)

    def faults(self) -> list[str]:
        """A line for each broken rule, with the first rows."""
        return [
            f"{self.file}: {one.num_broken} rows violate '{one.rule}', "
            f"first {'; '.join(one.examples)}"
            for one in self.checks
            if one.num_broken
        ]


def ratings_contract(
    ratings: pd.DataFrame, rubric: Rubric, file: Path, notes: Sequence[str] = ()
) -> Contract:
    """Single ratings: complete, within the rubric, one prompt per item."""
    remedy = "Correct or remove these rows in their source and run `zreward ingest` again"
    contract = Contract("ratings", ratings, file, lambda row: row["row_ref"], remedy, notes)
    contract.require_given("item_id")
    contract.require_given("dimension")
    contract.require_in("dimension is defined in the rubric", "dimension", rubric.names)
    contract.require_given("score")
    contract.require_on_scale("score", rubric)
    contract.require_given("source")
    contract.require_given("row_ref")
    named = _match(ratings["image_id"], r"^[0-9a-f]{64}$")
    contract.require("image_id is a SHA-256 digest in hexadecimal", named, "image_id")
    contract.require("each item has one prompt", _has_one_prompt(ratings), "item_id")
    return contract


def _match(values: pd.Series, pattern: str) -> np.ndarray:
    """[N] whether a text matches or is missing; each distinct text is tested once."""
    codes, distinct = coded(values)
    texts = pa.array(pd.Series(distinct, dtype=object), pa.string())
    matched = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return np.append(matched.astype(bool), True)[codes]  # a code of -1 is the last


def _has_one_prompt(ratings: pd.DataFrame) -> np.ndarray:
    """[N] whether a rating's item has at most one prompt in all ratings."""
    items_N, items = coded(ratings["item_id"])
    prompts_N, _ = coded(ratings["prompt_id"])
    known_N = (items_N >= 0) & (prompts_N >= 0)
    prompt_I = np.full(len(items), -1)
    prompt_I[items_N[known_N]] = prompts_N[known_N]
    odd_N = known_N & (prompts_N != np.append(prompt_I, -1)[items_N])
    one_I = np.ones(len(prompt_I) + 1, dtype=bool)
    one_I[items_N[odd_N]] = False
    return one_I[items_N]


def items_contract(
    items: pd.DataFrame, ratings: pd.DataFrame, rubric: Rubric, min_test_ratings: int, file: Path
) -> Contract:
    """Aggregated items: scores follow from the ratings, histograms and splits are consistent.

    Args:
        items: rows of ``schemas.ITEMS``.
        ratings: item_id, dimension, score of the aggregated ratings.
        rubric: gives scale and levels.
        min_test_ratings: ratings that a test item needs.
        file: the file of the items.
    """
    contract = Contract(
        "items",
        items,
        file,
        lambda row: f"{row['item_id']} {row['dimension']}",
        "Items follow from the ratings: run `zreward ingest` and `zreward validate` again; if the "
        "error persists, report it as a bug",
    )
    contract.require_given("item_id")
    contract.require_given("dimension")
    contract.require_in("dimension is defined in the rubric", "dimension", rubric.names)
    contract.require_given("score")
    contract.require_on_scale("score", rubric)
    contract.require_given("split")
    contract.require_in("split is train, validation or test", "split", SPLITS)
    contract.require_given("num_ratings")
    contract.require("each item has one score per dimension", ~items.duplicated(KEYS, keep=False))
    units_N, units_K, number = units_of(ratings, items)
    ratings_N, scores = ratings["score"].to_numpy(dtype=float), items["score"].to_numpy(dtype=float)
    lowest, highest = np.full(number + 1, np.inf), np.full(number + 1, -np.inf)
    np.minimum.at(lowest, units_N, ratings_N)
    np.maximum.at(highest, units_N, ratings_N)
    within = "score is between the lowest and the highest rating"
    contract.require(within, scores >= lowest[units_K] - TOLERANCE, "score")
    contract.require(within, scores <= highest[units_K] + TOLERANCE, "score")
    shares_KS = pa.array(items["histogram"]).flatten().to_numpy().reshape(-1, len(rubric.levels))
    total_K, mean_K = shares_KS.sum(axis=1), shares_KS @ np.asarray(rubric.levels)
    contract.require("histogram sums to 1", np.abs(total_K - 1) <= TOLERANCE, "histogram")
    positive = shares_KS.min(axis=1, initial=1.0) >= 0
    contract.require("histogram has no negative share", positive, "histogram")
    is_mean = ~(np.abs(mean_K - scores) > 1e-6)
    contract.require("mean of the histogram equals score", is_mean, "score")
    enough = f"num_ratings is at least {min_test_ratings} in the test split, 1 elsewhere"
    needed = np.where(items["split"] == "test", min_test_ratings, 1)
    contract.require(enough, items["num_ratings"].to_numpy() >= needed, "num_ratings")
    contract.require("each prompt is in one split", _splits_of_prompt(items) <= 1, "split")
    return contract


def _splits_of_prompt(items: pd.DataFrame) -> np.ndarray:
    """[K] number of splits that contain each item's prompt (or, without one, its image)."""
    prompts = items["prompt_id"]
    if prompts.isna().any():
        columns = (items[name].astype("str") for name in ("prompt_id", "image_id", "item_id"))
        prompts, images, names = columns
        prompts = prompts.fillna(images).fillna(names)
    prompts_K, splits_K = pd.factorize(prompts)[0], pd.factorize(items["split"])[0]
    found = pd.DataFrame({"prompt": prompts_K, "split": splits_K}).drop_duplicates()
    known = found["prompt"][(found["prompt"] >= 0) & (found["split"] >= 0)]
    return np.bincount(known, minlength=int(prompts_K.max(initial=0)) + 1)[prompts_K]


def pairs_contract(
    pairs: pd.DataFrame, items: pd.DataFrame, rubric: Rubric, file: Path
) -> Contract:
    """Pairs: same prompt, same split, and the winner has the higher score."""
    contract = Contract(
        "pairs",
        pairs,
        file,
        lambda row: f"{row['winner']} > {row['loser']}",
        "Pairs follow from the items: run `zreward validate` again; if the error persists, report "
        "it as a bug",
    )
    contract.require_given("prompt_id")
    contract.require_given("dimension")
    contract.require_in("dimension is defined in the rubric", "dimension", rubric.names)
    contract.require_given("winner")
    contract.require_given("loser")
    contract.require_on_scale("score_w", rubric)
    contract.require_on_scale("score_l", rubric)
    distinct = pairs["winner"].astype(object) != pairs["loser"].astype(object)
    contract.require("winner and loser are different items", distinct)
    higher = pairs["score_w"].to_numpy(dtype=float) > pairs["score_l"].to_numpy(dtype=float)
    contract.require("score_w is higher than score_l", higher, "score_w")
    known = items.set_index(KEYS)[["prompt_id", "split", "score"]]
    for side, score in (("winner", "score_w"), ("loser", "score_l")):
        facts = pairs[[side, "dimension"]].join(known, on=[side, "dimension"])
        for ours, theirs in (("prompt_id", "prompt_id"), ("split", "split"), (score, "score")):
            equal = _equal(pairs[ours], facts[theirs])
            contract.require(f"{ours} equals the {theirs} of the {side}", equal, ours)
    return contract


def _equal(ours: pd.Series, theirs: pd.Series) -> np.ndarray:
    """Whether values are equal or both missing."""
    if isinstance(ours.dtype, pd.CategoricalDtype) and ours.dtype != theirs.dtype:
        ours, theirs = ours.astype(object), theirs.astype(object)
    both_missing = ours.isna() & theirs.isna()
    return ((ours == theirs).fillna(False) | both_missing).to_numpy(dtype=bool)
