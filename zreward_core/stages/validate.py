"""Validate: ratings to train, validation and test items and pairs, through a gate.

Great Expectations checks the ratings before and the items and pairs after aggregation; a failed
expectation stops the chain before anything is written. The audit decides whose ratings count.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from zreward_core.annotations.ingest.summary import summary_notes
from zreward_core.annotations.items.aggregation import (
    Resubmissions,
    aggregate,
    merge_resubmissions,
    resubmitted,
)
from zreward_core.annotations.items.half_point_adjustment import adjust_by_comparisons
from zreward_core.annotations.items.opinions import opinion_items
from zreward_core.annotations.items.pairs import make_pairs
from zreward_core.annotations.items.ratings_table import codes_among, facts_of, read_ratings
from zreward_core.annotations.items.splits import SPLITS, splits_of
from zreward_core.annotations.quality.audit_page import audit_page
from zreward_core.annotations.quality.contracts import (
    items_contract,
    pairs_contract,
    ratings_contract,
)
from zreward_core.annotations.quality.data_docs import Gate
from zreward_core.annotations.quality.disagreement import most_disputed
from zreward_core.annotations.quality.encoding import EncodedRatings, encode
from zreward_core.annotations.quality.rater_behavior import audit_behavior
from zreward_core.annotations.quality.reliability import (
    alpha_by_dimension,
    alpha_intervals,
    annotator_reliability,
    audit_record,
)
from zreward_core.config import Splits, StageConfig, UserError
from zreward_core.pages.render import write_page
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import (
    COMPARISONS,
    DISAGREEMENT,
    ITEMS,
    OPINIONS,
    PAIRS,
    TEST_RATINGS,
    read_json,
    read_table,
    write_json,
    write_table,
)

RATINGS_FILE = Path("data/ingest/ratings.parquet")
COMPARISONS_FILE = Path("data/ingest/comparisons.parquet")
SUMMARY_FILE = Path("data/ingest/summary.json")
OPINIONS_FILE = Path("data/ingest/opinions.parquet")
OUTPUT = Path("data/validate")
DATA_DOCS = Path("reports/data_docs")
AUDIT_PAGE = Path("reports/audit.html")

KEYS = ["item_id", "dimension"]
SUBMITTED = [*KEYS, "annotator_id", "score", "submitted_at", "seconds"]
LOOKED_AT = [*SUBMITTED, "prompt_id", "prompt", "image_id", "source", "row_ref"]
"""Columns of the ratings that count, and those that are checked besides."""

logger = logging.getLogger(__name__)


class Config(StageConfig):
    """Params of the stage."""

    splits: Splits = Splits()
    """Shared: shares of the prompts."""
    resubmissions: Resubmissions = "average"
    """What counts where one annotator rated an item several times."""
    min_agreement: float = Field(default=0.4, ge=-1.0, le=1.0)
    """Annotators whose correlation with gold ratings, or, without enough of those in common, with
    the others' mean is lower do not count."""
    min_overlap: int = Field(default=20, ge=2)
    """Ratings shared with others that an annotator needs to be judged; below it he is included."""
    min_items_per_annotator: int = Field(default=0, ge=0)
    """Annotators who rated fewer items do not count."""
    gold_annotators: list[str] = Field(default_factory=list)
    """People (annotator_id) whose ratings are the measure of the others; they always count."""
    adjust_by_comparisons: bool = True
    """Move equal ratings of one person by a level where the same person told them apart."""
    disagreement_queue: int = Field(default=1000, ge=0)
    """Most disputed items that are listed."""
    min_test_ratings: int = Field(default=3, ge=1)
    """Ratings that a test item needs; with fewer it is left out."""
    trim_test: bool = True
    """Drop the highest and the lowest score of test items that have at least three."""


def run(config: Config) -> None:
    """Check, audit, aggregate, and write items, pairs and the audit."""
    rubric = load_rubric()
    submitted = read_ratings(RATINGS_FILE, LOOKED_AT)
    opinions = read_table(OPINIONS_FILE, OPINIONS)
    if submitted.empty and opinions.empty:
        raise UserError(f"{RATINGS_FILE} holds no rating: add a source and run `zreward ingest`")
    gate = Gate(DATA_DOCS)
    notes = summary_notes(read_json(SUMMARY_FILE)["sources"])
    gate.check(ratings_contract(submitted, rubric, RATINGS_FILE, notes))

    facts = describe_items(submitted, opinions, config.splits)
    num_submitted, submitted = len(submitted), submitted[SUBMITTED]
    pa.default_memory_pool().release_unused()  # the other columns are half of all memory
    encoded = encode(submitted, rubric.names)
    behavior = audit_behavior(encoded, submitted["submitted_at"], submitted["seconds"], rubric)
    ratings = merge_resubmissions(submitted, config.resubmissions)
    kept_all = config.resubmissions == "keep"
    num_again = resubmitted(submitted).sum() if kept_all else num_submitted - len(ratings)
    del submitted
    if len(ratings) < num_submitted:
        encoded = encode(ratings, rubric.names)
    annotators = annotator_reliability(
        encoded, config.min_agreement, config.min_overlap, config.gold_annotators
    )
    annotators["included"] &= enough_items(encoded, annotators, config.min_items_per_annotator)
    excluded = annotators.loc[~annotators["included"], "annotator_id"]
    counts_N = ~ratings["annotator_id"].isin(excluded)
    counted = ratings[counts_N]
    counted = counted.assign(split=facts_of(counted["item_id"], facts[["split"]])["split"])
    if counted.empty and opinions.empty:
        raise UserError(
            "no annotator agrees with the others: look at the ratings or lower "
            f"'validate.min_agreement' ({config.min_agreement}) in params.yaml"
        )
    disputed = most_disputed(encoded.select(counts_N.to_numpy()), facts, config.disagreement_queue)
    counted, num_adjusted = adjust(counted, rubric, config)
    items, left_out = make_items(counted, opinions, facts, rubric, config)
    pairs = make_pairs(items)

    kept = counted[belong_to(counted, items)]
    file = OUTPUT / "items.parquet"
    heard = kept if opinions.empty else pd.concat([kept, bounds(opinions)])
    gate.check(items_contract(items, heard, rubric, config.min_test_ratings, file))
    gate.check(pairs_contract(pairs, items, rubric, OUTPUT / "pairs.parquet"))
    gate.publish()

    audit = {
        **agreement(encoded, counts_N.to_numpy(), rubric, config),
        "annotators": audit_record(annotators.merge(behavior, on="annotator_id")),
        "counts": count(ratings, counted, items, pairs, left_out)
        | {
            "ratings": num_submitted,
            "resubmissions": int(num_again),
            "ratings_adjusted": num_adjusted,
        },
        "levels": rubric.levels,
    }
    with whole_output(OUTPUT, config) as folder:
        write_table(items, folder / "items.parquet", ITEMS)
        write_table(pairs, folder / "pairs.parquet", PAIRS)
        test_ratings = kept[kept["split"] == "test"]
        write_table(test_ratings, folder / "test_ratings.parquet", TEST_RATINGS)
        write_table(disputed, folder / "disagreement.parquet", DISAGREEMENT)
        write_json(audit, folder / "audit.json")
        write_json(gate.rules, folder / "contracts.json")
    write_page(audit_page(audit, disputed), AUDIT_PAGE)
    report(audit)


def adjust(ratings: pd.DataFrame, rubric: Rubric, config: Config) -> tuple[pd.DataFrame, int]:
    """Ratings after the half-point adjustment, and how many it moved."""
    if not config.adjust_by_comparisons:
        return ratings, 0
    return adjust_by_comparisons(ratings, read_table(COMPARISONS_FILE, COMPARISONS), rubric)


def agreement(
    encoded: EncodedRatings, included_N: np.ndarray, rubric: Rubric, config: Config
) -> dict[str, Any]:
    """Alpha of each dimension, of everybody and of those included, and what decided."""
    return {
        "alpha": alpha_by_dimension(encoded, rubric.names),
        "alpha_interval": alpha_intervals(encoded, rubric.names, config.seed),
        "alpha_included": alpha_by_dimension(encoded.select(included_N), rubric.names),
        "thresholds": {"min_agreement": config.min_agreement, "min_overlap": config.min_overlap},
    }


def enough_items(encoded: EncodedRatings, annotators: pd.DataFrame, min_items: int) -> np.ndarray:
    """Whether each row of the audit's table has rated so many items."""
    if min_items == 0:
        return np.ones(len(annotators), dtype=bool)
    rated = pd.DataFrame({"who": encoded.annotators_N, "item": encoded.items_N}).drop_duplicates()
    numbers_P = np.bincount(rated["who"][rated["who"] >= 0], minlength=len(encoded.annotators))
    number_of = dict(zip(encoded.annotators, numbers_P, strict=True))
    return np.array([number_of[name] >= min_items for name in annotators["annotator_id"]], bool)


def belong_to(ratings: pd.DataFrame, items: pd.DataFrame) -> np.ndarray:
    """Whether each rating is of one of the items."""
    sizes = [len(ratings[name].cat.categories) for name in KEYS]
    codes = [codes_among(items[name], ratings[name].cat.categories) for name in KEYS]
    known = (codes[0] >= 0) & (codes[1] >= 0)
    found = np.zeros(sizes, dtype=bool)
    found[codes[0][known], codes[1][known]] = True
    return found[ratings["item_id"].cat.codes, ratings["dimension"].cat.codes]


def bounds(opinions: pd.DataFrame) -> pd.DataFrame:
    """What an item of opinions must lie within: what ratings are for the others."""
    return opinions[["item_id", "dimension", "mean"]].rename(columns={"mean": "score"})


def describe_items(ratings: pd.DataFrame, opinions: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Prompt, image and split of each item, by item id, from its first judgement."""
    columns = ["item_id", "prompt_id", "prompt", "image_id"]
    facts = ratings[columns].drop_duplicates("item_id").astype({"item_id": "str"})
    facts = facts.set_index("item_id")
    if not opinions.empty:
        others = opinions[columns].drop_duplicates("item_id").set_index("item_id")
        facts = pd.concat([facts.astype("str"), others[~others.index.isin(facts.index)]])
    found = splits_of(facts["prompt"], facts["image_id"], splits)
    return facts.assign(split=pd.Categorical(found, categories=list(SPLITS)))


def make_items(
    ratings: pd.DataFrame,
    opinions: pd.DataFrame,
    facts: pd.DataFrame,
    rubric: Rubric,
    config: Config,
) -> tuple[pd.DataFrame, int]:
    """Aggregate included ratings; where an item has none, the opinions of it.

    Returns:
        Rows of ``schemas.ITEMS``, sorted by item and the rubric's dimensions, and the number of
        test items (of one dimension) left out for want of ratings.
    """
    trim = (ratings["split"] == "test") & config.trim_test
    items = aggregate(ratings, trim, rubric)
    if not opinions.empty:
        items = items.astype({"item_id": "str", "dimension": "str"})
        items = pd.concat([items, opinion_items(opinions, rubric)], ignore_index=True)
        items = items.drop_duplicates(["item_id", "dimension"], ignore_index=True)
    items = pd.concat([items, facts_of(items["item_id"], facts)], axis="columns")
    few = (items["split"] == "test") & (items["num_ratings"] < config.min_test_ratings)
    place = codes_among(items["dimension"].astype("str"), pd.Index(rubric.names))
    items = items.assign(place=place)[~few].sort_values(["item_id", "place"], ignore_index=True)
    return items[ITEMS.names], int(few.sum())


def count(
    ratings: pd.DataFrame,
    counted: pd.DataFrame,
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    left_out: int,
) -> dict[str, Any]:
    """Numbers on the way from ratings to items and pairs."""
    return {
        "ratings_excluded": len(ratings) - len(counted),
        "test_items_left_out": left_out,
        "items_without_image": int(items["image_id"].isna().sum()),
        "items": {split: int((items["split"] == split).sum()) for split in SPLITS},
        "pairs": {split: int((pairs["split"] == split).sum()) for split in SPLITS},
    }


def report(audit: dict[str, Any]) -> None:
    """Log who was excluded, what was left out and how well annotators agree."""
    for name, figures in audit["annotators"].items():
        if not figures["included"]:
            logger.warning("annotator %s excluded: agreement %s", name, figures["agreement"])
    counts = audit["counts"]
    if counts["test_items_left_out"]:
        logger.warning("%d test items have too few ratings", counts["test_items_left_out"])
    for split in SPLITS:
        if not counts["pairs"][split]:
            logger.warning("the %s split has no pairs", split)
    logger.info("alpha %s", audit["alpha"])
