"""Single ratings of a batch.

Shapes: N records, M judgements of some of their columns.
"""

import numpy as np
import pyarrow as pa

from zreward_core.annotations.ingest.batch import (
    CODE,
    EMPTY_RESULT,
    GOOD,
    OF_STATE,
    Batch,
    add_item_faults,
    constant,
    item_columns,
    name_of,
    names_of,
)
from zreward_core.annotations.ingest.column_settings import Slot
from zreward_core.annotations.ingest.items import Items
from zreward_core.annotations.ingest.values import MALFORMED
from zreward_core.schemas import RATINGS

MAX_SECONDS = 1e9
"""A longer time is not a measurement."""


def rating_rows(
    batch: Batch,
    items: Items,
    slot: Slot,
    rows: np.ndarray,
    native_M: np.ndarray,
    state_M: np.ndarray,
    refs: pa.Array,
    raters_M: pa.Array | None = None,
) -> None:
    """Map M scores.

    Args:
        batch: the records.
        items: of the records.
        slot: the column's settings.
        rows: [M] record of each score.
        native_M, state_M: scores and states (``values``).
        refs: [M] file and place of each score.
        raters_M: [M] annotators, if they are not those of the records.
    """
    scale, columns = batch.scale(slot.scale), batch.source.columns
    dimension, faults = batch.dimensions(slot.dimension, rows)
    reasons = np.where(faults != GOOD, faults, OF_STATE[state_M])
    outside = (native_M < scale.min) | (native_M > scale.max)
    assert slot.cell is not None
    batch.results.findings.add_scores(name_of(slot.cell), scale, native_M[reasons == GOOD])
    reasons[(reasons == GOOD) & outside] = CODE["out_of_range"]
    unread = (state_M == MALFORMED) & (reasons == CODE["malformed_record"])
    batch.note_unread("list" if slot.scores else "score", slot.cell, rows, refs, unread)
    add_item_faults(reasons, items, rows)
    if slot.optional:
        reasons[reasons == CODE["missing_value"]] = EMPTY_RESULT
    good = np.flatnonzero(reasons == GOOD)
    whole = len(good) == len(batch.records) and slot.scores is None  # saves copies
    kept = rows if whole else rows[good]
    native = native_M if whole else native_M[good]
    if raters_M is not None:
        annotators = raters_M.take(pa.array(good))
    elif slot.annotator_id is not None:
        annotators = constant(slot.annotator_id, len(kept))
    else:
        annotators = batch.shared["annotator_id"].take(kept)
    seconds = pa.nulls(len(kept), pa.float64())
    if columns.seconds is not None:
        read, read_state = (values[kept] for values in batch.numbers(columns.seconds))
        seconds = pa.array(read, mask=~(np.abs(read) < MAX_SECONDS))
        kept_refs = refs if whole else refs.take(pa.array(good))
        unread = read_state == MALFORMED
        batch.note_unread("number of seconds", columns.seconds, kept, kept_refs, unread)
    table = {
        **item_columns(batch, items, kept),
        "dimension": names_of(batch.rubric, dimension if whole else dimension[good]),
        "annotator_id": annotators,
        "score": pa.array(batch.scores_of(native, scale)),
        "native_score": pa.array(native),
        "submitted_at": batch.shared["submitted_at"].take(kept),
        "seconds": seconds,
        "source": constant(batch.source.name, len(kept)),
        "row_ref": refs if whole else refs.take(pa.array(good)),
    }
    batch.results.parts["ratings"].append(pa.table(table, schema=RATINGS))
    batch.set_aside(reasons, rows, refs)
