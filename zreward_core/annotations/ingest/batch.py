"""A batch of records during mapping, shared by all kinds of judgements.

Faults of judgements are numeric codes until the few faulty rows are written.

Shapes: N records, M judgements of some of their columns.
"""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import RAW_LENGTH, Records, raw_text
from zreward_core.annotations.ingest.accounting import QUARANTINE_REASONS, WRITTEN
from zreward_core.annotations.ingest.column_settings import (
    Cell,
    Dimension,
    DimensionColumn,
    Scale,
    as_word,
)
from zreward_core.annotations.ingest.findings import NUM_SHOWN, Findings
from zreward_core.annotations.ingest.items import Items
from zreward_core.annotations.ingest.references import shown_reference
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.values import Texts, no_texts, numbers, texts
from zreward_core.rubric import Rubric
from zreward_core.schemas import QUARANTINE

GOOD = 0
CODE = {reason: number for number, reason in enumerate(QUARANTINE_REASONS, start=1)}
EVENT, EMPTY_RESULT, SKIPPED = 101, 102, 103
_IGNORED = {EVENT: "event", EMPTY_RESULT: "empty_result", SKIPPED: "skipped"}
OF_STATE = np.array(
    [GOOD, CODE["missing_value"], CODE["malformed_record"], CODE["rounded_identifier"]],
    dtype=np.uint8,
)
"""Fault code of a number's state (``values``)."""


@dataclass
class Results:
    """Judgements mapped so far."""

    parts: dict[str, list[pa.Table]] = field(default_factory=lambda: {name: [] for name in WRITTEN})
    """Table name to its pieces."""
    ignored: Counter[str] = field(default_factory=Counter)
    num_native: int = 0
    findings: Findings = field(default_factory=Findings)


@dataclass
class Batch:
    """N records and the columns shared by all their judgements."""

    records: Records
    source: Source
    rubric: Rubric
    shared: dict[str, Texts]
    refs: pa.Array
    """[N] file and place."""
    faults: np.ndarray
    """[N] codes of the faults that the reader found."""
    results: Results

    def select(self, rows: np.ndarray) -> "Batch":
        """Some of the records; their judgements join the same results."""
        return replace(
            self,
            records=self.records.select(rows),
            shared={name: one.select(rows) for name, one in self.shared.items()},
            refs=self.refs.take(pa.array(rows)),
            faults=self.faults[rows],
        )

    def column(self, cell: Cell | None) -> pa.Array:
        """A column of the records; null without a cell."""
        return pa.nulls(len(self.records)) if cell is None else self.records.columns[cell.key]

    def texts(self, cell: Cell | None) -> Texts:
        """A column as text."""
        return no_texts(len(self.records)) if cell is None else texts(self.column(cell), cell)

    def numbers(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """A column as numbers: [N] values and [N] states."""
        return numbers(self.column(cell), cell, self.source.decimal)

    def scale(self, own: Scale | None = None) -> Scale:
        """The scale of a column: its own, else the source's, else the rubric's."""
        low, high = self.rubric.minimum, self.rubric.maximum
        return own or self.source.scale or Scale(min=low, max=high, higher_is_better=True)

    def scores_of(self, native: np.ndarray, scale: Scale) -> np.ndarray:
        """Native scores mapped linearly onto the rubric's scale; unchanged on the same scale."""
        low, high = self.rubric.minimum, self.rubric.maximum
        share = (native - scale.min) / (scale.max - scale.min)
        if not scale.higher_is_better:
            share = 1.0 - share
        elif (scale.min, scale.max) == (low, high):
            return native
        return np.clip(low + share * (high - low), low, high)  # rounding must not leave the scale

    def dimensions(
        self, asked: Dimension | None, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """[M] index of each judgement's dimension in the rubric, and [M] fault codes.

        Faults found by the reader take precedence, except for entries that are not judgements.
        """
        names, unknown = self.rubric.names, CODE["unknown_dimension"]
        asked = asked or self.source.dimension
        if isinstance(asked, DimensionColumn):
            words = self.texts(asked.column)
            targets = [asked.map.get(as_word(word), word) for word in words.listed()]
            codes = words.codes[rows]
        else:
            targets, codes = [asked], np.zeros(len(rows), dtype=np.int64)
        places = [names.index(one) if one in names else -1 for one in targets]
        faults = [
            EVENT if target is None else GOOD if place >= 0 else unknown
            for target, place in zip(targets, places, strict=True)
        ]
        own = np.array([*faults, unknown], dtype=np.uint8)[codes]  # a code of -1 is the last
        read = self.faults[rows]
        reasons = np.where((read != GOOD) & (own != EVENT), read, own)
        if isinstance(asked, DimensionColumn):
            self.note_unread(
                "dimension", asked.column, rows, self.refs, (own == unknown) & (read == GOOD)
            )
        return np.array([*places, -1], dtype=np.int8)[codes], reasons

    def note_unread(
        self, kind: str, cell: Cell, rows: np.ndarray, refs: pa.Array, unread: np.ndarray
    ) -> None:
        """Note the cells of M judgements that cannot be read, for messages.

        Args:
            kind: of the cell (``findings.REMEDIES``).
            cell: the column.
            rows: [M] record of each judgement.
            refs: file and place of each judgement [M], or of each record [N].
            unread: [M] whether it cannot be read.
        """
        places = np.flatnonzero(unread)
        if not len(places):
            return
        found = texts(self.column(cell).take(pa.array(rows[places])))
        codes, first = np.unique(found.codes, return_index=True)
        order = [place for place in np.argsort(first) if codes[place] >= 0][:NUM_SHOWN]
        shown = places[first[order]]
        named = refs.take(pa.array(shown if len(refs) == len(rows) else rows[shown])).to_pylist()
        cells = [found.values[int(codes[place])].as_py() for place in order]
        number = int((found.codes >= 0).sum())
        if number:
            listed = dict(zip(cells, named, strict=True))
            self.results.findings.add_unread(kind, name_of(cell), number, listed)

    def set_aside(self, reasons: np.ndarray, rows: np.ndarray, refs: pa.Array) -> None:
        """Count M judgements as native; count the ignored ones and quarantine the faulty ones."""
        self.results.num_native += len(rows)
        for code, reason in _IGNORED.items():
            self.results.ignored[reason] += int((reasons == code).sum())
        faulty = np.flatnonzero((reasons != GOOD) & (reasons <= len(QUARANTINE_REASONS)))
        if len(faulty):
            names = pa.array(QUARANTINE_REASONS).take(pa.array(reasons[faulty] - 1))
            self.quarantine(refs.take(pa.array(faulty)), names, self._raw(rows[faulty]))

    def quarantine(self, refs: pa.Array, reasons: pa.Array, raw: list[str]) -> None:
        """Add quarantine rows."""
        columns = [constant(self.source.name, len(raw)), refs, reasons, pa.array(raw, pa.string())]
        self.results.parts["quarantine"].append(pa.table(columns, schema=QUARANTINE))

    def _raw(self, rows: np.ndarray) -> list[str]:
        if self.records.raw is not None:
            return [raw_text(self.records.raw[row]) for row in rows]
        columns = {
            name: column
            for name, column in self.records.columns.items()
            if not name.startswith("\0")
        }
        table = pa.table(columns).take(pa.array(rows)).to_pylist()
        shown = [{name: _shown(value) for name, value in one.items()} for one in table]
        return [json.dumps(one, ensure_ascii=False, default=str)[:RAW_LENGTH] for one in shown]


def _shown(value: Any) -> Any:
    """A value without the content of an embedded image."""
    return shown_reference(value) if isinstance(value, str) else value


def add_item_faults(reasons: np.ndarray, items: Items, rows: np.ndarray) -> None:
    """Add the faults of the items to M judgements that have none of their own, in place."""
    if any(items.faults):
        faults = np.array([CODE[one] if one else GOOD for one in items.faults], dtype=np.uint8)
        found = faults[items.codes[rows]]
        reasons[reasons == GOOD] = found[reasons == GOOD]


def item_columns(batch: Batch, items: Items, rows: np.ndarray) -> dict[str, pa.Array]:
    """Columns of the items that M judgements are about."""
    codes = pa.array(items.codes[rows])
    return {
        "item_id": items.item_ids.take(codes),
        "prompt_id": items.prompt_ids.take(codes),
        "prompt": items.prompts.take(codes),
        "image_id": items.image_ids.take(codes),
        "generator": batch.shared["generator"].take(rows),
    }


def name_of(cell: Cell) -> str:
    """Name of a cell in references and messages."""
    return cell.column or cell.value or cell.file or ""


def names_of(rubric: Rubric, places: np.ndarray) -> pa.Array:
    """Names of dimensions by their index in the rubric."""
    return pa.array(rubric.names, pa.string()).take(pa.array(places))


def constant(text: str | None, number: int) -> pa.Array:
    """A column of one text."""
    return pa.array([text], pa.string()).take(pa.array(np.zeros(number, dtype=np.int8)))


def joined(prefix: pa.Array | str, middle: str, suffix: pa.Array | np.ndarray) -> pa.Array:
    """Texts joined by a middle part; numbers are written as text."""
    text = suffix if isinstance(suffix, pa.Array) else pa.array(suffix).cast(pa.string())
    return pc.binary_join_element_wise(prefix, text, middle)
