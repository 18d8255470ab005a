"""Validate: ratings to train, validation and test items and pairs, through a gate.

Great Expectations checks the ratings before and the items and pairs after aggregation; a failed
expectation stops the chain before anything is written. The audit decides whose ratings count.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from zreward_core.annotations.aggregation import Resubmissions, aggregate, merge_resubmissions
from zreward_core.annotations.audit import alpha_by_dimension, audit_annotators, audit_record
from zreward_core.annotations.expectations import (
    Gate,
    items_contract,
    pairs_contract,
    ratings_contract,
)
from zreward_core.annotations.pairs import make_pairs
from zreward_core.annotations.splits import SPLITS, splits_of
from zreward_core.config import Splits, StageConfig, UserError
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import (
    ITEMS,
    PAIRS,
    RATINGS,
    TEST_RATINGS,
    read_table,
    write_json,
    write_table,
)

RATINGS_FILE = Path("data/ingest/ratings.parquet")
OUTPUT = Path("data/validate")
DATA_DOCS = Path("reports/data_docs")

logger = logging.getLogger(__name__)


class Config(StageConfig):
    """Params of the stage."""

    splits: Splits = Splits()
    """Shared: shares of the prompts."""
    resubmissions: Resubmissions = "average"
    """What counts where one annotator rated an item several times."""
    min_agreement: float = Field(default=0.4, ge=-1.0, le=1.0)
    """Annotators whose correlation with the others' mean is lower do not count."""
    min_overlap: int = Field(default=20, ge=2)
    """Ratings shared with others that an annotator needs to be judged; below it he is included."""
    min_test_ratings: int = Field(default=3, ge=1)
    """Ratings that a test item needs; with fewer it is left out."""
    trim_test: bool = True
    """Drop the highest and the lowest score of test items that have at least three."""


def run(config: Config) -> None:
    """Check, audit, aggregate, and write items, pairs and the audit."""
    rubric = load_rubric()
    submitted = read_table(RATINGS_FILE, RATINGS)
    if submitted.empty:
        raise UserError(f"{RATINGS_FILE} holds no rating: add a source and run `zreward ingest`")
    gate = Gate(DATA_DOCS)
    gate.check(ratings_contract(submitted, rubric, RATINGS_FILE))

    ratings = merge_resubmissions(submitted, config.resubmissions)
    annotators = audit_annotators(ratings, config.min_agreement, config.min_overlap)
    excluded = annotators.loc[~annotators["included"], "annotator_id"]
    facts = describe_items(submitted, config.splits)
    counted = ratings[~ratings["annotator_id"].isin(excluded)].join(facts["split"], on="item_id")
    if counted.empty:
        raise UserError(
            "no annotator agrees with the others: look at the ratings or lower "
            f"'validate.min_agreement' ({config.min_agreement}) in params.yaml"
        )
    items, left_out = make_items(counted, facts, rubric, config)
    pairs = make_pairs(items)

    kept = counted.merge(items[["item_id", "dimension"]], on=["item_id", "dimension"])
    file = OUTPUT / "items.parquet"
    gate.check(items_contract(items, kept, rubric, config.min_test_ratings, file))
    gate.check(pairs_contract(pairs, items, rubric, OUTPUT / "pairs.parquet"))
    gate.publish()

    audit = {
        "alpha": alpha_by_dimension(ratings, rubric.names),
        "alpha_included": alpha_by_dimension(counted, rubric.names),
        "annotators": audit_record(annotators),
        "counts": count(submitted, ratings, counted, items, pairs, left_out),
    }
    with whole_output(OUTPUT, config) as folder:
        write_table(items, folder / "items.parquet", ITEMS)
        write_table(pairs, folder / "pairs.parquet", PAIRS)
        test_ratings = kept[kept["split"] == "test"]
        write_table(test_ratings, folder / "test_ratings.parquet", TEST_RATINGS)
        write_json(audit, folder / "audit.json")
    report(audit)


def describe_items(ratings: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Prompt, picture and split of each item, by item id, from its first rating."""
    columns = ["item_id", "prompt_id", "prompt", "image_id"]
    facts = ratings[columns].drop_duplicates("item_id").set_index("item_id")
    return facts.assign(split=splits_of(facts["prompt"], facts["image_id"], splits))


def make_items(
    ratings: pd.DataFrame, facts: pd.DataFrame, rubric: Rubric, config: Config
) -> tuple[pd.DataFrame, int]:
    """Aggregate included ratings.

    Returns:
        Rows of ``schemas.ITEMS``, sorted by item and the rubric's dimensions, and the number of
        test items (of one dimension) left out for want of ratings.
    """
    trim = (ratings["split"] == "test") & config.trim_test
    items = aggregate(ratings, trim, rubric).join(facts, on="item_id")
    few = (items["split"] == "test") & (items["num_ratings"] < config.min_test_ratings)
    place = items["dimension"].map({name: index for index, name in enumerate(rubric.names)})
    items = items.assign(place=place)[~few].sort_values(["item_id", "place"], ignore_index=True)
    return items[ITEMS.names], int(few.sum())


def count(
    submitted: pd.DataFrame,
    ratings: pd.DataFrame,
    counted: pd.DataFrame,
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    left_out: int,
) -> dict[str, Any]:
    """Numbers on the way from ratings to items and pairs."""
    return {
        "ratings": len(submitted),
        "resubmissions": len(submitted) - len(ratings),
        "ratings_excluded": len(ratings) - len(counted),
        "test_items_left_out": left_out,
        "items_without_picture": int(items["image_id"].isna().sum()),
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
