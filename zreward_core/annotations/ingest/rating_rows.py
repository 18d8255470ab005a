"""Single ratings of a batch.

Shapes: N records, M judgements of some of their columns.
"""

import numpy as np
import pyarrow as pa

from zreward_core.annotations.ingest import values
from zreward_core.annotations.ingest.batch import (
    CODE,
    EMPTY_RESULT,
    GOOD,
    OF_STATE,
    Batch,
    add_item_faults,
    constant,
    dimension_of,
    item_columns,
    names_of,
    set_aside,
    to_rubric,
)
from zreward_core.annotations.ingest.settings import Slot
from zreward_core.schemas import RATINGS

MAX_SECONDS = 1e9
"""A longer time is no measurement."""


def rating_rows(
    batch: Batch,
    slot: Slot,
    rows: np.ndarray,
    native_M: np.ndarray,
    state_M: np.ndarray,
    refs: pa.Array,
) -> None:
    """Write M judgements: ``rows`` says which record each belongs to."""
    scale = slot.scale or batch.source.scale
    assert scale is not None
    dimension, faults = dimension_of(batch, slot.dimension or batch.source.dimension, rows)
    reasons = np.where(faults != GOOD, faults, OF_STATE[state_M])
    outside = (native_M < scale.min) | (native_M > scale.max)
    reasons[(reasons == GOOD) & outside] = CODE["out_of_range"]
    add_item_faults(reasons, batch.items, rows)
    if slot.optional:
        reasons[reasons == CODE["missing_value"]] = EMPTY_RESULT
    good = np.flatnonzero(reasons == GOOD)
    whole = len(good) == len(batch.records) and batch.source.columns.scores is None
    kept = rows if whole else rows[good]
    native = native_M if whole else native_M[good]
    shared = batch.shared
    if slot.annotator_id is not None:
        annotators = pa.array(np.full(len(kept), slot.annotator_id, dtype=object), pa.string())
    else:
        annotators = shared["annotator_id"].take(kept)
    seconds = pa.nulls(len(kept), pa.float64())
    if batch.source.columns.seconds is not None:
        read = values.numbers(batch.column(batch.source.columns.seconds))[0][kept]
        seconds = pa.array(read, mask=~(np.abs(read) < MAX_SECONDS))
    batch.parts["ratings"].append(
        pa.table(
            {
                **item_columns(batch, kept),
                "dimension": names_of(batch.rubric, dimension if whole else dimension[good]),
                "annotator_id": annotators,
                "score": pa.array(to_rubric(native, scale, batch.rubric)),
                "native_score": pa.array(native),
                "submitted_at": shared["submitted_at"].take(kept),
                "seconds": seconds,
                "source": constant(batch.source.name, len(kept)),
                "row_ref": refs if whole else refs.take(good),
            },
            schema=RATINGS,
        )
    )
    set_aside(batch, reasons, rows, refs)
