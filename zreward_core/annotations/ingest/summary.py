"""Counts of the judgements of a source by outcome."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.ingest.accounting import Judgements
from zreward_core.annotations.ingest.findings import Findings
from zreward_core.annotations.ingest.references import shown_reference
from zreward_core.schemas import normalise_prompt

NUM_LISTED = 10
"""References without an image that the summary lists."""
USABLE = ("ratings", "comparisons", "opinions")


@dataclass
class SourceSummary:
    """Counts of one source."""

    files: list[str] = field(default_factory=list)
    native: int = 0
    usable: Counter[str] = field(default_factory=Counter)
    quarantine: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    without_image: int = 0
    num_unnamed: int = 0
    """Ratings without an annotator."""
    first_unnamed: str = ""
    """Row of the first of them."""
    repaired: int = 0
    first_faults: dict[str, str] = field(default_factory=dict)
    """Reason to the first row quarantined for it."""
    missing_images: dict[str, Any] = field(default_factory=lambda: {"number": 0, "first": []})
    """Distinct references without an image: their number and the first ones, with the reason."""
    refused_images: dict[str, Any] = field(default_factory=lambda: {"number": 0, "first": []})
    """The same for images that cannot be used."""
    notes: dict[str, None] = field(default_factory=dict)
    """What was assumed about the files, each once."""
    broken: int = 0
    """Records that could not be read."""
    problems: dict[str, None] = field(default_factory=dict)
    """Why, each once."""
    findings: Findings = field(default_factory=Findings)
    """What messages say about the cells."""

    def add(self, judgements: Judgements) -> None:
        """Count a batch."""
        self.native += judgements.num_native
        self.repaired += judgements.num_repaired
        self.broken += judgements.num_broken
        self.problems.update(dict.fromkeys(judgements.problems))
        self.findings.add(judgements.findings)
        self.notes.update(dict.fromkeys(judgements.notes))
        for name in USABLE:
            self.usable[name] += getattr(judgements, name).num_rows
        self.ignored.update(judgements.ignored)
        for table in (judgements.ratings, judgements.opinions):
            self.without_image += table["image_id"].null_count
        ratings = judgements.ratings
        unnamed = ratings["row_ref"].filter(pc.is_null(ratings["annotator_id"]))
        self.num_unnamed += len(unnamed)
        self.first_unnamed = self.first_unnamed or (unnamed[0].as_py() if len(unnamed) else "")
        reasons = judgements.quarantine["reason"]
        for pair in pc.value_counts(reasons).to_pylist():
            self.quarantine[pair["values"]] += pair["counts"]
            if pair["values"] not in self.first_faults:
                place = pc.index(reasons, pair["values"]).as_py()
                self.first_faults[pair["values"]] = judgements.quarantine["row_ref"][place].as_py()

    def add_references(self, missing: dict[str, str], refused: dict[str, str]) -> None:
        """Count the references of the source that have no image; each with a reason or ""."""
        for found, counts in ((missing, self.missing_images), (refused, self.refused_images)):
            first = list(islice(found.items(), NUM_LISTED))
            counts["number"] = len(found)
            shown = [(shown_reference(one), why) for one, why in first]
            counts["first"] = [f"{one} ({why})" if why else one for one, why in shown]

    @property
    def num_usable(self) -> int:
        """Judgements that later stages can use."""
        return sum(self.usable.values())

    @property
    def quarantine_share(self) -> float:
        """Share of the judgements (without ignored records) that was quarantined."""
        faulty = sum(self.quarantine.values())
        return faulty / max(1, faulty + self.num_usable)

    def record(self, resubmissions: int) -> dict[str, Any]:
        """The counts for the summary file."""
        return {
            "files": sorted(self.files),
            "native": self.native,
            **{name: self.usable[name] for name in USABLE},
            "quarantine": dict(+self.quarantine),
            "ignored": dict(+self.ignored),
            "without_image": self.without_image,
            "repaired": self.repaired,
            "resubmissions": resubmissions,
            "missing_images": self.missing_images,
            "refused_images": self.refused_images,
        }


def count_resubmissions(ratings: pa.Table) -> dict[str, int]:
    """Ratings beyond the first of one annotator for one item and dimension, by source.

    Args:
        ratings: item_id, dimension, annotator_id and source, best as dictionaries.
    """
    codes = {}
    for name in ("item_id", "dimension", "annotator_id", "source"):
        column = ratings[name].unify_dictionaries().combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([])
        codes[name] = pc.fill_null(column.indices, -1).to_numpy().astype(np.int64)
        if name == "source":
            names = column.dictionary.to_pylist()
    key = codes["item_id"]
    for name in ("dimension", "annotator_id", "source"):
        key = key * (int(codes[name].max(initial=-1)) + 2) + codes[name] + 1
    again = pd.Series(key).duplicated().to_numpy() & (codes["annotator_id"] >= 0)
    counts = np.bincount(codes["source"][again], minlength=len(names))
    return {name: int(number) for name, number in zip(names, counts, strict=False)}


def spellings(ratings: pa.Table) -> list[list[str]]:
    """Annotators whose identifiers differ only by the case of letters, such as Anna and anna.

    Those that differ by characters that cannot be seen are escaped.
    """
    found: dict[str, list[str]] = {}
    distinct = pc.unique(ratings["annotator_id"].unify_dictionaries())
    for name in sorted(filter(None, distinct.to_pylist())):
        found.setdefault(normalise_prompt(name), []).append(name)
    return [
        names if len({name.casefold() for name in names}) == 1 else [ascii(name) for name in names]
        for names in found.values()
        if len(names) > 1
    ]


def summary_rows(summary: dict[str, dict[str, Any]]) -> list[tuple[str, str, int, str]]:
    """Source, outcome, number of judgements and reason, for tables."""
    rows = []
    for name, counts in summary.items():
        for outcome in USABLE:
            if counts[outcome]:
                rows.append((name, outcome, counts[outcome], ""))
        for outcome in ("quarantine", "ignored"):
            for reason, number in sorted(counts[outcome].items()):
                rows.append((name, outcome, number, reason))
        rows.append((name, "all", counts["native"], ""))
    return rows


def summary_notes(summary: dict[str, dict[str, Any]]) -> list[str]:
    """A line of Markdown per source, for pages."""
    lines = []
    for name in summary:
        rows = [row for row in summary_rows(summary) if row[0] == name and row[1] != "all"]
        counts = [
            f"{number:,} {' '.join(part for part in (outcome, reason) if part)}"
            for _, outcome, number, reason in rows
        ]
        lines.append(f"**{name}**: {summary[name]['native']:,} judgements: {', '.join(counts)}")
    return lines
