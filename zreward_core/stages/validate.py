"""validate: judgements -> items and pairs by split (train, validation, test), checked by contracts.

The ratings are checked before aggregation, the items and pairs after it; a violated contract
stops the run before anything is written. The audit decides which annotators are included.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from zreward_core.annotations.ingest.summary import summary_notes
from zreward_core.annotations.items.aggregation import (
    Resubmissions,
    merge_resubmissions,
    resubmitted,
)
from zreward_core.annotations.items.building import belong_to, describe_items, make_items
from zreward_core.annotations.items.half_point_adjustment import adjust_by_comparisons
from zreward_core.annotations.items.pairs import make_pairs, missing_pairs
from zreward_core.annotations.items.ratings_table import facts_of, read_ratings
from zreward_core.annotations.items.splits import SPLITS, check_splits, splits_of
from zreward_core.annotations.items.times import UNKNOWN, parse_times
from zreward_core.annotations.items.votes import unscored_comparisons, unscored_items, voted_pairs
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
    enough_items,
)
from zreward_core.annotations.quality.votes_contract import votes_contract
from zreward_core.config import Count, CountOrZero, Splits, StageConfig, UserError
from zreward_core.pages.render import write_page
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import (
    CANDIDATES,
    COMPARISONS,
    DISAGREEMENT,
    ITEMS,
    OPINIONS,
    PAIRS,
    TEST_RATINGS,
    VOTED_PAIRS,
    read_json,
    read_table,
    write_json,
    write_table,
)

RATINGS_FILE = Path("data/ingest/ratings.parquet")
COMPARISONS_FILE = Path("data/ingest/comparisons.parquet")
COMPARED_FILE = Path("data/ingest/compared_items.parquet")
SUMMARY_FILE = Path("data/ingest/summary.json")
OPINIONS_FILE = Path("data/ingest/opinions.parquet")
OUTPUT = Path("data/validate")
DATA_DOCS = Path("reports/data_docs")
AUDIT_PAGE = Path("reports/audit.html")

SUBMITTED = ["item_id", "dimension", "annotator_id", "score", "submitted_at", "seconds"]
"""Columns of the ratings that are aggregated and audited."""
CHECKED = [*SUBMITTED, "prompt_id", "prompt", "image_id", "source", "row_ref"]
"""Columns that the contract and the items need."""

logger = logging.getLogger(__name__)


class Config(StageConfig):
    """Params of the stage."""

    splits: Splits = Splits()
    """Shared: shares of the prompts."""
    resubmissions: Resubmissions = "average"
    """How several ratings of an item by one annotator are merged."""
    min_agreement: float = Field(default=0.4, ge=-1.0, le=1.0)
    """Annotators with a lower agreement are excluded: the correlation with gold ratings or, with
    too few of those in common, with the mean of the others."""
    min_overlap: Count = Field(default=20, ge=2)
    """Shared ratings that an annotator needs to be judged; with fewer, they are included."""
    min_items_per_annotator: CountOrZero = 0
    """Annotators who rated fewer items are excluded."""
    gold_annotators: list[str] = Field(default_factory=list)
    """Reference annotators (annotator_id); they are always included."""
    adjust_by_comparisons: bool = True
    """Apply the half-point adjustment."""
    disagreement_queue: CountOrZero = 1000
    """Number of most disputed items to list."""
    min_test_ratings: Count = 3
    """Ratings that a test item needs; with fewer it is dropped."""
    trim_test: bool = True
    """Drop the highest and the lowest score of test items that have at least three."""


@dataclass(frozen=True)
class Ratings:
    """The submitted ratings, each annotator's counted once per item, with the audit."""

    table: pd.DataFrame
    """item_id, dimension, annotator_id, score; resubmissions are merged."""
    encoded: EncodedRatings
    """The same rows."""
    annotators: pd.DataFrame
    """Reliability of each annotator, and whether their ratings are ``included``."""
    behavior: pd.DataFrame
    """Behavior of each annotator."""
    facts: pd.DataFrame
    """Prompt, image and split of each item (``describe_items``)."""
    num_submitted: int
    num_again: int
    """Ratings that their annotator submitted again."""


def run(config: Config) -> None:
    """Check, audit, aggregate; write items, pairs and the audit.

    Raises:
        UserError: there are no judgements, none is included, or a contract is violated.
    """
    rubric = load_rubric()
    gate = Gate(DATA_DOCS)
    opinions = read_table(OPINIONS_FILE, OPINIONS)
    comparisons = read_table(COMPARISONS_FILE, COMPARISONS)
    ratings = audit_ratings(config, rubric, gate, opinions, comparisons)
    facts, annotators = ratings.facts, ratings.annotators
    excluded = annotators.loc[~annotators["included"], "annotator_id"]
    included_N = ~ratings.table["annotator_id"].isin(excluded).to_numpy()
    included = ratings.table[included_N]
    included = included.assign(split=facts_of(included["item_id"], facts[["split"]])["split"])
    if ratings.num_submitted and included.empty and opinions.empty:
        raise UserError(
            "no annotator agrees with the others: check the ratings or lower "
            f"'validate.min_agreement' ({config.min_agreement}) in params.yaml"
        )
    disputed = most_disputed(ratings.encoded.select(included_N), facts, config.disagreement_queue)
    num_adjusted = 0
    if config.adjust_by_comparisons:
        included, num_adjusted = adjust_by_comparisons(included, comparisons, rubric)
    items, num_dropped = make_items(
        included, opinions, facts, rubric, config.trim_test, config.min_test_ratings
    )
    check_splits(facts, items, config.splits, config.min_test_ratings)
    pairs = make_pairs(items)
    votes = comparisons[~comparisons["annotator_id"].isin(excluded)]
    unrated, voted, vote_counts = pairs_by_votes(votes, items, config)
    if not ratings.num_submitted and opinions.empty and voted.empty:
        raise UserError(
            f"{COMPARISONS_FILE}: there are only comparisons, and none of them is a pair of "
            f"images of one prompt ({vote_counts}): correct `columns.prompt`, `columns.image_a`, "
            "`columns.image_b` and `images` of the source in params.yaml and run `zreward ingest`"
        )
    kept = included[belong_to(included, items)]
    bounds = opinions[["item_id", "dimension", "mean"]].rename(columns={"mean": "score"})
    judged = kept if opinions.empty else pd.concat([kept, bounds])
    file = OUTPUT / "items.parquet"
    gate.check(items_contract(items, judged, rubric, config.min_test_ratings, file))
    gate.check(pairs_contract(pairs, items, rubric, OUTPUT / "pairs.parquet"))
    if len(voted):
        every_item = pd.concat([items.astype(object), unrated], ignore_index=True)
        gate.check(votes_contract(voted, every_item, rubric, OUTPUT / "pairs.parquet"))
    gate.publish()

    audit = {
        **agreement(ratings.encoded, included_N, rubric, config),
        "annotators": audit_record(annotators.merge(ratings.behavior, on="annotator_id")),
        "counts": {
            "ratings": ratings.num_submitted,
            "resubmissions": ratings.num_again,
            "ratings_excluded": len(ratings.table) - len(included),
            "ratings_adjusted": num_adjusted,
            "test_items_left_out": num_dropped,
            "items_without_image": int(items["image_id"].isna().sum()),
            "items": count_splits(items),
            "pairs": count_splits(pairs),
        },
        "levels": rubric.levels,
    }
    if vote_counts:
        audit["votes"] = {
            **vote_counts,
            "by_excluded_annotators": len(comparisons) - len(votes),
            "items_without_score": len(unrated),
            "pairs": count_splits(voted),
            "ties": int((voted["vote_share"] == 0.5).sum()),
        }
    schema = PAIRS
    if len(voted):
        items, schema = every_item, VOTED_PAIRS
        pairs = pd.concat([pairs.astype(object), voted.astype(object)], ignore_index=True)
    with whole_output(OUTPUT, config) as folder:
        write_table(items, folder / "items.parquet", ITEMS)
        write_table(pairs, folder / "pairs.parquet", schema)
        test_ratings = kept[kept["split"] == "test"]
        write_table(test_ratings, folder / "test_ratings.parquet", TEST_RATINGS)
        write_table(disputed, folder / "disagreement.parquet", DISAGREEMENT)
        write_json(audit, folder / "audit.json")
        write_json(gate.rules, folder / "contracts.json")
    write_page(audit_page(audit, disputed), AUDIT_PAGE)
    for name, reason in missing_pairs(items, pairs).items():
        logger.warning("the dimension %s has no pairs: %s", name, reason)
    report(audit)


def audit_ratings(
    config: Config, rubric: Rubric, gate: Gate, opinions: pd.DataFrame, comparisons: pd.DataFrame
) -> Ratings:
    """Read and check the submitted ratings, and judge their annotators.

    Raises:
        UserError: there are no judgements of any kind, or the contract of the ratings is violated.
    """
    submitted = read_ratings(RATINGS_FILE, CHECKED)
    if submitted.empty and opinions.empty and comparisons.empty:
        raise UserError(
            f"{RATINGS_FILE} has no ratings, and there are no opinions or comparisons: "
            "add a source and run `zreward ingest`"
        )
    notes = summary_notes(read_json(SUMMARY_FILE)["sources"])
    gate.check(ratings_contract(submitted, rubric, RATINGS_FILE, notes))
    facts = describe_items(submitted, opinions, config.splits)
    num_submitted, submitted = len(submitted), submitted[SUBMITTED]
    encoded = encode(submitted, rubric.names)
    texts = submitted.pop("submitted_at")
    times_N = parse_times(texts)
    report_times(texts, times_N)
    del texts
    pa.default_memory_pool().release_unused()  # texts and other columns were half of all memory
    behavior = audit_behavior(encoded, times_N, submitted["seconds"], rubric)
    table = merge_resubmissions(submitted, config.resubmissions, times_N)
    kept_all = config.resubmissions == "keep"
    num_again = resubmitted(submitted).sum() if kept_all else num_submitted - len(table)
    del submitted, times_N
    if len(table) < num_submitted:
        encoded = encode(table, rubric.names)
    annotators = annotator_reliability(
        encoded, config.min_agreement, config.min_overlap, config.gold_annotators
    )
    annotators["included"] &= enough_items(encoded, config.min_items_per_annotator)
    return Ratings(table, encoded, annotators, behavior, facts, num_submitted, int(num_again))


def count_splits(table: pd.DataFrame) -> dict[str, int]:
    """Rows of each split."""
    return {split: int((table["split"] == split).sum()) for split in SPLITS}


def pairs_by_votes(
    comparisons: pd.DataFrame, items: pd.DataFrame, config: Config
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Items without scores, pairs by votes and counts (``voted_pairs``; empty without votes)."""
    votes = unscored_comparisons(comparisons, items)
    if votes.empty:
        return pd.DataFrame(columns=ITEMS.names), pd.DataFrame(columns=VOTED_PAIRS.names), {}
    facts = read_table(COMPARED_FILE, CANDIDATES).drop_duplicates("item_id").set_index("item_id")
    facts = facts.assign(split=splits_of(facts["prompt"], facts["image_id"], config.splits))
    voted, counts = voted_pairs(votes, facts, config.resubmissions)
    return unscored_items(voted, items, facts), voted, {"comparisons": len(votes), **counts}


def agreement(
    encoded: EncodedRatings, included_N: np.ndarray, rubric: Rubric, config: Config
) -> dict[str, Any]:
    """Alpha of each dimension, of all and of included annotators, and the thresholds."""
    return {
        "alpha": alpha_by_dimension(encoded, rubric.names),
        "alpha_interval": alpha_intervals(encoded, rubric.names, config.seed),
        "alpha_included": alpha_by_dimension(encoded.select(included_N), rubric.names),
        "thresholds": {"min_agreement": config.min_agreement, "min_overlap": config.min_overlap},
    }


def report_times(texts: pd.Series, times_N: np.ndarray) -> None:
    """Log submission times that could not be parsed."""
    unread = texts[(times_N == UNKNOWN) & texts.notna().to_numpy()]
    if len(unread):
        logger.warning(
            "%d of %d submission times could not be parsed, first '%s': they are sorted before the "
            "others, in file order; use a format such as 2026-01-31T09:30:00Z",
            len(unread),
            len(texts),
            unread.iloc[0],
        )


def report(audit: dict[str, Any]) -> None:
    """Log excluded annotators, dropped items and the agreement."""
    for name, figures in audit["annotators"].items():
        if not figures["included"]:
            logger.warning("annotator %s excluded: agreement %s", name, figures["agreement"])
    counts = audit["counts"]
    if counts["test_items_left_out"]:
        logger.warning(
            "%d test items have fewer ratings than 'validate.min_test_ratings' asks for and were "
            "dropped; lower it in params.yaml to keep them",
            counts["test_items_left_out"],
        )
    voted = report_votes(audit["votes"], counts) if "votes" in audit else {}
    for split in SPLITS:
        if not counts["pairs"][split] and not voted.get(split):
            logger.warning("the %s split has no pairs", split)
    logger.info("alpha %s", audit["alpha"])


def report_votes(votes: dict[str, Any], counts: dict[str, Any]) -> dict[str, int]:
    """Log the comparisons of images without scores; returns the pairs that they make by split."""
    if not sum(counts["items"].values()):
        logger.warning("only comparisons were read: no item has a score, all pairs are by votes")
    logger.info(
        "%d comparisons of images without scores make %d pairs (%d ties), used by "
        "`train_gdso.votes` and `evaluate`; left out: %d without prompt or image, %d of different "
        "prompts, %d of an image with itself, %d by excluded annotators",
        votes["comparisons"],
        sum(votes["pairs"].values()),
        votes["ties"],
        votes["without_prompt_or_image"],
        votes["different_prompts"],
        votes["same_image"],
        votes["by_excluded_annotators"],
    )
    if votes["contradicting"]:
        logger.info(
            "%d pairs have votes for both images: the majority wins", votes["contradicting"]
        )
    return votes["pairs"]
