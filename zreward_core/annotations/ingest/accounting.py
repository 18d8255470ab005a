"""The account of native judgements: nothing a rater said is lost on the way to the tables.

The unit is the native judgement: one vote of one rater on one dimension, or one mean opinion. Each
becomes exactly one rating, comparison or opinion row, or one quarantine row with a reason, or is
counted as ignored with a reason. Both lists of reasons are closed. A record that cannot be read
counts as one.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from zreward_core.schemas import COMPARISONS, OPINIONS, QUARANTINE, RATINGS

QUARANTINE_REASONS = (
    "missing_value",
    "out_of_range",
    "unknown_dimension",
    "unreadable_image",
    "image_too_large",
    "path_outside_drop",
    "malformed_record",
    "conflicting_prompt",
)
IGNORED_REASONS = ("event", "empty_line", "skipped", "empty_result")
TABLES = {
    "ratings": RATINGS,
    "comparisons": COMPARISONS,
    "opinions": OPINIONS,
    "quarantine": QUARANTINE,
}
"""Where judgements go."""


@dataclass
class Judgements:
    """Some of a file's judgements as tables of ``schemas``."""

    ratings: pa.Table
    comparisons: pa.Table
    opinions: pa.Table
    quarantine: pa.Table
    ignored: Counter[str] = field(default_factory=Counter)
    num_native: int = 0
    """Native judgements, counted apart from how they were read."""
    num_repaired: int = 0
    """Records that were torn and put together again."""

    def check_account(self, place: str) -> None:
        """Every native judgement is accounted for exactly once.

        Args:
            place: file and source, for the message.
        """
        assert set(self.ignored) <= set(IGNORED_REASONS), self.ignored
        accounted = sum(getattr(self, name).num_rows for name in TABLES)
        accounted += sum(self.ignored.values())
        assert accounted == self.num_native, (
            f"{place}: {self.num_native} native judgements, {accounted} accounted for"
        )


@dataclass
class SourceRows:
    """What one file of a source holds; rows are dicts of the columns of ``schemas``."""

    source: str
    ratings: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    opinions: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    num_native: int = 0
    """Native judgements in the file, counted apart from how they were read."""

    def set_aside(self, row_ref: str, reason: str, raw: str) -> None:
        """Put one judgement into quarantine."""
        assert reason in QUARANTINE_REASONS, reason
        self.quarantine.append(
            {"source": self.source, "row_ref": row_ref, "reason": reason, "raw": raw}
        )

    def ignore(self, reason: str, number: int = 1) -> None:
        """Count records that are no judgement."""
        assert reason in IGNORED_REASONS, reason
        self.ignored[reason] += number

    @property
    def num_usable(self) -> int:
        """Judgements that later stages can use."""
        return len(self.ratings) + len(self.comparisons) + len(self.opinions)

    def check_account(self) -> None:
        """Every native judgement is accounted for exactly once."""
        accounted = self.num_usable + len(self.quarantine) + sum(self.ignored.values())
        assert accounted == self.num_native, (
            f"{self.source}: {self.num_native} native judgements, {accounted} accounted for"
        )

    def reasons(self) -> dict[str, int]:
        """Number of quarantined judgements by reason."""
        return dict(sorted(Counter(row["reason"] for row in self.quarantine).items()))

    def judgements(self) -> Judgements:
        """The same as tables."""
        tables = {
            name: pa.Table.from_pylist(getattr(self, name), schema=schema)
            for name, schema in TABLES.items()
        }
        return Judgements(**tables, ignored=self.ignored, num_native=self.num_native)
