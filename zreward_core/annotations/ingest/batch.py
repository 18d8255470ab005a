"""A batch of records on its way to judgements, and what all kinds of judgements share.

Faults of a judgement are numbers until the few rows that have one are written out.

Shapes: N records, M judgements of some of their columns.
"""

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import RAW_LENGTH, Records
from zreward_core.annotations.ingest.accounting import QUARANTINE_REASONS, TABLES
from zreward_core.annotations.ingest.items import Items
from zreward_core.annotations.ingest.settings import (
    Cell,
    Dimension,
    DimensionColumn,
    Scale,
    Source,
)
from zreward_core.annotations.ingest.values import Texts, texts
from zreward_core.rubric import Rubric
from zreward_core.schemas import QUARANTINE

GOOD = 0
CODE = {reason: number for number, reason in enumerate(QUARANTINE_REASONS, start=1)}
EVENT, EMPTY_RESULT, SKIPPED = 101, 102, 103
_IGNORED = {EVENT: "event", EMPTY_RESULT: "empty_result", SKIPPED: "skipped"}
OF_STATE = np.array([GOOD, CODE["missing_value"], CODE["malformed_record"]], dtype=np.uint8)
"""Reason of a number's state (``values``)."""


@dataclass
class Batch:
    """Records and what their columns have in common for all judgements."""

    records: Records
    source: Source
    rubric: Rubric
    path: str
    shared: dict[str, Texts]
    items: Items
    refs: pa.Array
    """[N] file and row."""
    parts: dict[str, list[pa.Table]] = field(default_factory=lambda: {name: [] for name in TABLES})
    ignored: Counter[str] = field(default_factory=Counter)
    num_native: int = 0

    def column(self, cell: Cell | None) -> pa.Array:
        """A column of the records."""
        return pa.nulls(len(self.records)) if cell is None else self.records.columns[cell.column]


def to_rubric(native: np.ndarray, scale: Scale, rubric: Rubric) -> np.ndarray:
    """The linear map of a scale onto the rubric's; the same scale is left as it is."""
    share = (native - scale.min) / (scale.max - scale.min)
    if not scale.higher_is_better:
        share = 1.0 - share
    elif (scale.min, scale.max) == (rubric.minimum, rubric.maximum):
        return native
    mapped = rubric.minimum + share * (rubric.maximum - rubric.minimum)
    return np.clip(mapped, rubric.minimum, rubric.maximum)  # rounding must not leave the scale


def dimension_of(
    batch: Batch, asked: Dimension | None, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place of each judgement's dimension in the rubric, and its reason."""
    names = batch.rubric.names
    unknown = CODE["unknown_dimension"]
    if not isinstance(asked, DimensionColumn):
        place = names.index(asked) if asked in names else -1
        fault = np.full(len(rows), GOOD if place >= 0 else unknown, dtype=np.uint8)
        return np.full(len(rows), place, dtype=np.int8), fault
    said = texts(batch.column(asked.column), asked.column)
    targets = [asked.map.get(word, word) for word in said.listed()]
    places = [names.index(one) if one in names else -1 for one in targets]
    faults = [
        EVENT if target is None else GOOD if place >= 0 else unknown
        for target, place in zip(targets, places, strict=True)
    ]
    codes = said.codes[rows]
    return (
        np.array([*places, -1], dtype=np.int8)[codes],
        np.array([*faults, unknown], dtype=np.uint8)[codes],
    )


def set_aside(batch: Batch, reasons: np.ndarray, rows: np.ndarray, refs: pa.Array) -> None:
    """Count M judgements as native, the ignored as such, and put the faulty into quarantine."""
    batch.num_native += len(rows)
    for code, reason in _IGNORED.items():
        batch.ignored[reason] += int((reasons == code).sum())
    for code, reason in enumerate(QUARANTINE_REASONS, start=1):
        faulty = np.flatnonzero(reasons == code)
        if len(faulty):
            raw = _raw(batch.records, rows[faulty])
            told = refs.take(faulty)
            batch.parts["quarantine"].append(quarantine_rows(batch.source.name, told, reason, raw))


def _raw(records: Records, rows: np.ndarray) -> list[str]:
    table = pa.table(records.columns).take(pa.array(rows)).to_pylist()
    return [json.dumps(one, ensure_ascii=False, default=str)[:RAW_LENGTH] for one in table]


def quarantine_rows(
    source: str, refs: pa.Array | list[str], reason: str, raw: list[str]
) -> pa.Table:
    return pa.table(
        {
            "source": constant(source, len(raw)),
            "row_ref": pa.array(refs, pa.string()),
            "reason": constant(reason, len(raw)),
            "raw": pa.array(raw, pa.string()),
        },
        schema=QUARANTINE,
    )


def add_item_faults(reasons: np.ndarray, items: Items, rows: np.ndarray) -> None:
    if any(items.faults):
        faults = np.array([CODE[one] if one else GOOD for one in items.faults], dtype=np.uint8)
        found = faults[items.codes[rows]]
        reasons[reasons == GOOD] = found[reasons == GOOD]


def item_columns(batch: Batch, rows: np.ndarray) -> dict[str, pa.Array]:
    items = batch.items
    codes = pa.array(items.codes[rows])
    return {
        "item_id": items.item_ids.take(codes),
        "prompt_id": items.prompt_ids.take(codes),
        "prompt": batch.shared["prompt"].take(rows),
        "image_id": items.image_ids.take(codes),
        "generator": batch.shared["generator"].take(rows),
    }


def names_of(rubric: Rubric, places: np.ndarray) -> pa.Array:
    return pa.array(rubric.names, pa.string()).take(pa.array(places))


def constant(text: str, number: int) -> pa.Array:
    return pa.array([text], pa.string()).take(pa.array(np.zeros(number, dtype=np.int8)))


def joined(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def suffixed(refs: pa.Array, middle: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(refs, middle, pa.array(numbers).cast(pa.string()), "")


def no_items() -> Items:
    empty = pa.array([], pa.string())
    return Items(np.array([], dtype=np.int64), empty, empty, empty, [])
