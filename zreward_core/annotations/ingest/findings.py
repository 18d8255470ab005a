"""What messages say about the cells of a source: unreadable ones, and scores outside their scale.

Shapes: M judgements.
"""

from dataclasses import dataclass, field

import numpy as np

from zreward_core.annotations.ingest.column_settings import Scale
from zreward_core.config import writable

NUM_SHOWN = 5
"""Distinct cells of a column that a message shows."""
SHOWN_LENGTH = 40
"""Characters of a cell that a message shows."""
WRONG_SCALE = 0.1
"""Share of the scores outside the declared scale from which on the scale looks wrong."""
MIN_OUTSIDE = 3
"""Number of scores that must be outside."""
REMEDIES = {
    "score": (
        "extract the number by `{column: .., pattern: .., to: ..}`, or map words to values "
        "(`words` of a score; null: no answer)"
    ),
    "list": (
        "declare the `separator`, extract the numbers by `pattern` and `to`, or map words by "
        "`words`; a list of `annotator_ids` must have the same length"
    ),
    "vote": "add the words to `vote.map` (a, b, tie, both_bad; null: skipped)",
    "dimension": "add the values to `dimension.map` (null: not a judgement)",
    "number of seconds": "the ratings count without a time; extract the seconds by `pattern`",
}
"""Kind of a cell to the remedy if it cannot be read."""


@dataclass
class Unread:
    """Cells of a column that cannot be read."""

    number: int = 0
    first: dict[str, str] = field(default_factory=dict)
    """The first distinct cells, each with its file and row."""


@dataclass
class Spread:
    """Scores of a column on a declared scale."""

    number: int = 0
    outside: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, other: "Spread") -> None:
        """Add those of another batch."""
        self.number += other.number
        self.outside += other.outside
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass
class Findings:
    """Findings of a batch or a source."""

    unread: dict[tuple[str, str], Unread] = field(default_factory=dict)
    """By kind of cell and column."""
    spreads: dict[tuple[str, float, float], Spread] = field(default_factory=dict)
    """By column, and the ends of its declared scale."""

    def add_unread(self, kind: str, column: str, number: int, first: dict[str, str]) -> None:
        """Add cells that cannot be read.

        Args:
            kind: one of ``REMEDIES``.
            column: its name.
            number: of the cells.
            first: the first distinct ones, each with its file and row.
        """
        one = self.unread.setdefault((kind, column), Unread())
        one.number += number
        for cell, row in first.items():
            if len(one.first) < NUM_SHOWN:
                one.first.setdefault(cell, row)

    def add_scores(self, column: str, scale: Scale, native_M: np.ndarray) -> None:
        """Add scores that are numbers, inside and outside their scale."""
        finite = native_M[np.isfinite(native_M)]
        if len(finite):
            low, high = float(finite.min()), float(finite.max())
            is_inside = scale.min <= low and high <= scale.max
            outside = 0 if is_inside else int(((finite < scale.min) | (finite > scale.max)).sum())
            found = Spread(len(finite), outside, low, high)
            self.spreads.setdefault((column, scale.min, scale.max), Spread()).add(found)

    def add(self, other: "Findings") -> None:
        """Add the findings of another batch."""
        for (kind, column), unread in other.unread.items():
            self.add_unread(kind, column, unread.number, unread.first)
        for key, spread in other.spreads.items():
            self.spreads.setdefault(key, Spread()).add(spread)

    def unread_cells(self, kinds: tuple[str, ...] = tuple(REMEDIES)) -> list[str]:
        """A message per column with cells that cannot be read: the cells, their rows, a remedy."""
        messages = []
        for (kind, column), one in self.unread.items():
            if kind in kinds:
                listed = ", ".join(f"'{_shown(cell)}' ({row})" for cell, row in one.first.items())
                messages.append(
                    f"{one.number} cells of the column '{column}' cannot be read as a {kind}, such "
                    f"as {listed}: {REMEDIES[kind]}"
                )
        return messages

    def wrong_scales(self, min_share: float = WRONG_SCALE, min_number: int = MIN_OUTSIDE) -> list:
        """A message per column of which more than a share of the scores is outside its scale."""
        return [
            f"{one.outside} of {one.number} scores of the column '{column}' are outside the "
            f"declared scale from {low:g} to {high:g}; they range from {one.low:g} to "
            f"{one.high:g}: the declared scale looks wrong, so scores inside it would be mapped "
            "wrongly, too; correct `scale` (`min`, `max`)"
            for (column, low, high), one in self.spreads.items()
            if one.outside >= min_number and one.outside > min_share * one.number
        ]


def _shown(cell: str) -> str:
    cell = writable(" ".join(cell.split()))
    return cell if len(cell) <= SHOWN_LENGTH else f"{cell[:SHOWN_LENGTH]}..."
