"""Accounting of native judgements: every one of them becomes a row or is counted.

The unit is the native judgement: one vote of one rater on one dimension, or one mean opinion. Each
becomes exactly one rating, comparison or opinion row, or one quarantine row with a reason, or is
counted as ignored with a reason. Both lists of reasons are closed. A record that cannot be read
or that is a total counts as one.
"""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from zreward_core.annotations.ingest.findings import Findings
from zreward_core.schemas import CANDIDATES, COMPARISONS, OPINIONS, QUARANTINE, RATINGS

QUARANTINE_REASONS = (
    "missing_value",
    "out_of_range",
    "unknown_dimension",
    "unreadable_image",
    "image_too_large",
    "path_outside_drop",
    "malformed_record",
    "conflicting_prompt",
    "unread_kind",
    "unknown_image",
    "rounded_identifier",
    "total",
)
IGNORED_REASONS = (
    "event",
    "empty_line",
    "skipped",
    "empty_result",
    "region",
    "duplicate",
    "prediction",
    "draft",
)
TABLES = {
    "ratings": RATINGS,
    "comparisons": COMPARISONS,
    "opinions": OPINIONS,
    "quarantine": QUARANTINE,
}
"""Tables of judgements."""
WRITTEN = {**TABLES, "compared_items": CANDIDATES}
"""Tables that ingest writes; the items of the comparisons may be listed several times."""


@dataclass
class Judgements:
    """Judgements of a batch as tables of ``schemas``."""

    ratings: pa.Table
    comparisons: pa.Table
    opinions: pa.Table
    quarantine: pa.Table
    compared_items: pa.Table = field(default_factory=CANDIDATES.empty_table)
    """Items of the comparisons, as rows of ``schemas.CANDIDATES``."""
    ignored: Counter[str] = field(default_factory=Counter)
    num_native: int = 0
    """Native judgements, counted independently of these tables."""
    num_repaired: int = 0
    """Records that were split by a line break and have been joined again."""
    notes: list[str] = field(default_factory=list)
    """What was assumed about the file, with its path."""
    num_broken: int = 0
    """Records that could not be read."""
    problems: list[str] = field(default_factory=list)
    """Why, with the path of the file."""
    findings: Findings = field(default_factory=Findings)
    """What messages say about the cells."""

    def check_account(self, place: str) -> None:
        """Check that the native judgements are the rows plus those ignored.

        Args:
            place: file and source, for the message.
        """
        assert set(self.ignored) <= set(IGNORED_REASONS), self.ignored
        accounted = sum(getattr(self, name).num_rows for name in TABLES)
        accounted += sum(self.ignored.values())
        assert accounted == self.num_native, (
            f"{place}: {self.num_native} native judgements, {accounted} accounted for"
        )
