"""Test and pool items with everything known about them, for the viewer.

Shapes: N items, D dimensions, S score levels. NaN: unknown.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from zreward_core.config import UserError
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.schemas import LABELS, read_json

PREDICTIONS = Path("data/evaluate/predictions.parquet")
POOL_PREDICTIONS = Path("data/evaluate/pool_predictions.parquet")
"""The student's predictions for a sample of the labelled pool."""
ITEMS_FILE, AUDIT = Path("data/validate/items.parquet"), Path("data/validate/audit.json")
LABELS_FILE, TRACES = Path("data/label/labels.parquet"), Path("data/label/traces")
CANDIDATES = Path("data/candidates/items.parquet"), Path("data/candidates/pool.parquet")
RATINGS, OPINIONS = Path("data/ingest/ratings.parquet"), Path("data/ingest/opinions.parquet")
COMPARISONS = Path("data/ingest/comparisons.parquet")
VERDICTS = {
    "a": {"item_a": "better than", "item_b": "worse than"},
    "b": {"item_a": "worse than", "item_b": "better than"},
    "tie": {"item_a": "tie with", "item_b": "tie with"},
    "both_bad": {"item_a": "as bad as", "item_b": "as bad as"},
}
"""Vote to the verdict on each of the two items."""
MAX_TEST_ITEMS = 10_000
"""Test items, at most; a sample of more."""
Key = tuple[str, str]
"""Item and dimension."""


@dataclass(frozen=True)
class Given:
    """A judgement of an item on a dimension, as it was ingested."""

    by: str
    """The annotator, or the number of ratings behind a mean."""
    score: float
    row_ref: str
    excluded: bool
    """Whether the audit excluded the annotator."""


@dataclass(frozen=True)
class Vote:
    """A comparison of an item with another one on a dimension, as it was ingested."""

    by: str
    """The annotator; "anonymous" where none is recorded."""
    verdict: str
    """On the item, one of ``VERDICTS``."""
    other: str
    row_ref: str
    excluded: bool


@dataclass(frozen=True)
class ShownItems:
    """The items of the viewer: test items, then pool items, each in the order of their ids."""

    rubric: Rubric
    items: pd.DataFrame
    """[N] item_id, prompt, image_id, generator, is_test."""
    num_test: int
    num_pool: int
    """Test items and labelled pool items before sampling."""
    score_ND: np.ndarray
    """Aggregated score of the annotators."""
    histogram_NDS: np.ndarray
    """Share of the annotators at each level."""
    teacher_NDS: np.ndarray
    student_NDS: np.ndarray
    """Distributions over the levels."""
    traces: dict[Key, list[str]]
    """The teacher's reasoning: the first trace of a test item, all traces of a pool item."""
    given: dict[Key, list[Given]]
    """Ratings, and opinions of several annotators."""
    votes: dict[Key, list[Vote]]

    def reasoning(self, item: str) -> list[list[str]]:
        """The teacher's traces of an item, by dimension."""
        return [self.traces.get((item, name), []) for name in self.rubric.names]

    def judgements(self, item: str) -> list[list[Given]]:
        """The ratings and opinions of an item, by dimension."""
        return [self.given.get((item, name), []) for name in self.rubric.names]

    def comparisons(self, item: str) -> list[list[Vote]]:
        """The comparisons of an item with others, by dimension."""
        return [self.votes.get((item, name), []) for name in self.rubric.names]


def pool_sample(num_items: int) -> pd.DataFrame:
    """Labels of the first items of the labelled pool; empty if no pool was labelled.

    The pool is in the order of item ids, which are hashes: the first items are a random sample.

    Returns:
        Rows of ``schemas.LABELS``.
    """
    parts = [LABELS.empty_table().to_pandas()]
    num_found = 0
    if LABELS_FILE.is_file():
        with pq.ParquetFile(LABELS_FILE) as labels:
            for batch in labels.iter_batches(columns=LABELS.names):
                parts.append(batch.to_pandas())
                num_found += parts[-1]["item_id"].nunique()
                if num_found > num_items:
                    break
    table = pd.concat(parts, ignore_index=True)
    return table[table["item_id"].isin(table["item_id"].unique()[:num_items])]


def read_shown_items() -> ShownItems:
    """Read the items from the outputs of `evaluate` and of the stages before it.

    Raises:
        UserError: `evaluate` has not run, or the rubric is invalid.
    """
    rubric = load_rubric()
    for path in (PREDICTIONS, ITEMS_FILE):
        if not path.is_file():
            raise UserError(f"{path} not found: run `zreward {path.parent.name}`")
    tested = _read(PREDICTIONS, ["item_id"], model=["student"])["item_id"].unique()
    test = sorted(tested)[:MAX_TEST_ITEMS]
    columns = ["item_id", "dimension", "model", "probs", "trace"]
    predictions = _read(PREDICTIONS, columns, item_id=test, model=["teacher", "student"])
    of_teacher = predictions["model"] == "teacher"
    pool = _read(POOL_PREDICTIONS, ["item_id", "dimension", "probs"])
    in_pool = set(pool["item_id"]) - set(test)
    labels = _read(LABELS_FILE, LABELS.names, item_id=in_pool)
    annotated = _read(ITEMS_FILE, None, item_id=test)
    columns = ["item_id", "prompt", "image_id"]
    items = pd.concat(
        [annotated[columns].assign(is_test=True), labels[columns].assign(is_test=False)]
    ).drop_duplicates("item_id")
    items = items.sort_values(["is_test", "item_id"], ascending=[False, True], ignore_index=True)
    excluded = _excluded()
    given, generators = _judgements(test, excluded)
    for path in CANDIDATES:
        made = _read(path, ["item_id", "generator"], item_id=set(items["item_id"]))
        generators |= dict(zip(made["item_id"], made["generator"], strict=True))
    named = map(generators.get, items["item_id"])
    items["generator"] = [one if isinstance(one, str) else "" for one in named]
    place = _Placing(items["item_id"], rubric)
    return ShownItems(
        rubric=rubric,
        items=items,
        num_test=len(tested),
        num_pool=pq.read_metadata(LABELS_FILE).num_rows // len(rubric.names) if in_pool else 0,
        score_ND=place.numbers(annotated, "score"),
        histogram_NDS=place.distributions(annotated, "histogram"),
        teacher_NDS=place.distributions(pd.concat([labels, predictions[of_teacher]]), "probs"),
        student_NDS=place.distributions(pd.concat([pool, predictions[~of_teacher]]), "probs"),
        traces=_traces(in_pool, predictions[of_teacher]),
        given=given,
        votes=_votes(test, excluded),
    )


class _Placing:
    """Values of rows, placed by item and dimension."""

    def __init__(self, items: pd.Series, rubric: Rubric) -> None:
        self._items, self._dimensions = pd.Index(items), pd.Index(rubric.names)
        self._shape = len(items), len(rubric.names)
        self._num_levels = len(rubric.levels)

    def numbers(self, rows: pd.DataFrame, column: str) -> np.ndarray:
        """[N, D] of a column of numbers."""
        placed = np.full(self._shape, np.nan)
        placed[self._places(rows)] = rows[column].to_numpy(dtype=float)
        return placed

    def distributions(self, rows: pd.DataFrame, column: str) -> np.ndarray:
        """[N, D, S] of a column of lists."""
        rows = rows[rows[column].notna()]  # items known from votes alone have no histogram
        placed = np.full((*self._shape, self._num_levels), np.nan)
        if len(rows):
            placed[self._places(rows)] = np.stack(rows[column].tolist())
        return placed

    def _places(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        places = self._items.get_indexer(rows["item_id"])
        return places, self._dimensions.get_indexer(rows["dimension"])


def _read(path: Path, columns: list[str] | None, **wanted: Collection[str]) -> pd.DataFrame:
    """The rows of a table, or of the tables in a folder, whose columns have wanted values.

    No rows if the file is absent: ratings, opinions and the pool are optional.
    """
    if not path.exists():
        return pd.DataFrame(columns=columns or ["item_id"])
    filters = [(name, "in", sorted(values) or [""]) for name, values in wanted.items()]
    return pq.read_table(path, columns=columns, filters=filters or None).to_pandas()


def _traces(in_pool: set[str], of_test: pd.DataFrame) -> dict[Key, list[str]]:
    of_pool = _read(TRACES, ["item_id", "dimension", "trace"], item_id=in_pool)
    traces: dict[Key, list[str]] = defaultdict(list)
    for rows in (of_pool, of_test):
        keys = zip(rows["item_id"], rows["dimension"], strict=True)
        for key, trace in zip(keys, rows["trace"], strict=True):
            traces[key].append(trace)
    return dict(traces)


def _excluded() -> set[str]:
    """Annotators that the audit excludes."""
    people = read_json(AUDIT)["annotators"] if AUDIT.is_file() else {}
    return {name for name, row in people.items() if not row["included"]}


def _votes(items: list[str], excluded: set[str]) -> dict[Key, list[Vote]]:
    """Comparisons of some items, with whatever other items."""
    votes: dict[Key, list[Vote]] = defaultdict(list)
    for side, opposite in (("item_a", "item_b"), ("item_b", "item_a")):
        rows = _read(COMPARISONS, None, **{side: items})
        for row in rows.to_dict("records"):
            annotator = row["annotator_id"]
            by = annotator if isinstance(annotator, str) else "anonymous"
            verdict, other = VERDICTS[row["vote"]][side], row[opposite]
            one = Vote(by, verdict, other, row["row_ref"], annotator in excluded)
            votes[row[side], row["dimension"]].append(one)
    return dict(votes)


def _judgements(
    items: list[str], excluded: set[str]
) -> tuple[dict[Key, list[Given]], dict[str, str]]:
    """Ratings and opinions of some items, and the generators that were named with them."""
    given: dict[Key, list[Given]] = defaultdict(list)
    generators: dict[str, str] = {}
    rated = _read(RATINGS, None, item_id=items)
    for row in rated.itertuples():
        one = Given(row.annotator_id, row.score, row.row_ref, row.annotator_id in excluded)
        given[row.item_id, row.dimension].append(one)
    opined = _read(OPINIONS, None, item_id=items)
    for row in opined.itertuples():
        number = "" if pd.isna(row.num_ratings) else f" of {row.num_ratings:.0f} ratings"
        given[row.item_id, row.dimension].append(
            Given(f"mean{number}", row.mean, row.row_ref, False)
        )
    for rows in (rated, opined):
        named = rows.dropna(subset="generator") if len(rows) else rows
        generators |= dict(zip(named["item_id"], named.get("generator", []), strict=True))
    return dict(given), generators
