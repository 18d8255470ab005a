"""Mean opinions of a batch: means with standard deviations, and histograms.

Shapes: N records, S levels of the rubric.
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
    item_columns,
    name_of,
    names_of,
)
from zreward_core.annotations.ingest.column_settings import Cell, Scale, Slot
from zreward_core.annotations.ingest.items import Items
from zreward_core.annotations.ingest.list_cells import number_lists
from zreward_core.schemas import OPINIONS

LARGEST_STD = 2**-0.5 + 1e-6
"""Largest standard deviation as a share of the scale: two ratings at opposite ends."""


def opinion_rows(batch: Batch, items: Items, slot: Slot, refs: pa.Array) -> None:
    """Map the opinion of each record.

    Args:
        batch: the records.
        items: of the records.
        slot: the columns' settings.
        refs: [N] file and place of each opinion.
    """
    columns, rubric, scale = batch.source.columns, batch.rubric, batch.scale(slot.scale)
    number = len(batch.records)
    rows = np.arange(number)
    dimension, faults = batch.dimensions(slot.dimension, rows)
    shares, votes, state = _histograms(batch, scale)
    mean, mean_state = np.full(number, np.nan), np.full(number, values.MISSING, dtype=np.uint8)
    if slot.mean is not None:
        mean, mean_state = batch.numbers(slot.mean)
    if shares is None:
        state = mean_state
    reasons = np.where(faults != GOOD, faults, OF_STATE[state])
    reasons[(reasons == GOOD) & (mean_state == values.MALFORMED)] = CODE["malformed_record"]
    if slot.mean is not None:
        batch.results.findings.add_scores(name_of(slot.mean), scale, mean[reasons == GOOD])
    reasons[(reasons == GOOD) & ((mean < scale.min) | (mean > scale.max))] = CODE["out_of_range"]
    std = np.full(number, np.nan)
    if slot.std is not None:
        std, std_state = batch.numbers(slot.std)
        if slot.std_scale is not None:
            std = std * (scale.max - scale.min) / (slot.std_scale.max - slot.std_scale.min)
        reasons[(reasons == GOOD) & (std_state == values.MALFORMED)] = CODE["malformed_record"]
        impossible = (std < 0) | (std > LARGEST_STD * (scale.max - scale.min))
        reasons[(reasons == GOOD) & impossible] = CODE["out_of_range"]
    _note_unread(batch, slot, rows, refs, reasons)
    add_item_faults(reasons, items, rows)
    if slot.optional:
        reasons[reasons == CODE["missing_value"]] = EMPTY_RESULT
    good = np.flatnonzero(reasons == GOOD)
    mapped = batch.scores_of(mean, scale)
    if shares is not None:
        mapped = np.where(np.isnan(mean), shares @ np.asarray(rubric.levels), mapped)
    if isinstance(columns.num_ratings, Cell):
        votes = batch.numbers(columns.num_ratings)[0]
    elif columns.num_ratings is not None:
        votes = np.full(number, float(columns.num_ratings))
    factor = (rubric.maximum - rubric.minimum) / (scale.max - scale.min)
    counted = np.isfinite(votes[good])
    histograms = [None] * len(good) if shares is None else shares[good].tolist()
    table = {
        **item_columns(batch, items, good),
        "dimension": names_of(rubric, dimension[good]),
        "mean": pa.array(mapped[good]),
        "std": pa.array(std[good] * factor, from_pandas=True),
        "histogram": pa.array(histograms, OPINIONS.field("histogram").type),
        "num_ratings": pa.array(np.where(counted, votes[good], 0).astype(np.int64), mask=~counted),
        "source": constant(batch.source.name, len(good)),
        "row_ref": refs.take(good),
    }
    batch.results.parts["opinions"].append(pa.table(table, schema=OPINIONS))
    batch.set_aside(reasons, rows, refs)


def _note_unread(
    batch: Batch, slot: Slot, rows: np.ndarray, refs: pa.Array, reasons: np.ndarray
) -> None:
    """Note the cells that are not numbers; slow, so only if a record is malformed."""
    malformed = reasons == CODE["malformed_record"]
    if malformed.any():
        histogram = batch.source.columns.histogram
        parts = histogram if isinstance(histogram, list) else []
        for cell in filter(None, (slot.mean, slot.std, *parts)):
            unread = batch.numbers(cell)[1] == values.MALFORMED
            batch.note_unread("score", cell, rows, refs, malformed & unread)
        if isinstance(histogram, Cell):
            batch.note_unread("list", histogram, rows, refs, malformed)


def _histograms(batch: Batch, scale: Scale) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Shares of the rubric's levels [N, S], votes [N] (NaN: shares, not counts), states [N]."""
    asked, number = batch.source.columns.histogram, len(batch.records)
    unknown = np.full(number, np.nan)
    if asked is None:
        return None, unknown, np.zeros(number, dtype=np.uint8)
    if isinstance(asked, list):
        read = [batch.numbers(cell) for cell in asked]
        counts = np.stack([np.where(one[1] == values.MISSING, 0.0, one[0]) for one in read], 1)
        state = np.max([np.where(one[1] == values.MALFORMED, 2, 0) for one in read], axis=0)
    else:
        flat, states, lengths = number_lists(batch.column(asked), asked, batch.source.decimal)
        width = int(lengths.max(initial=0))
        counts, state = np.zeros((number, width)), np.where(lengths == width, 0, values.MALFORMED)
        place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        counts[np.repeat(np.arange(number), lengths), place] = np.nan_to_num(flat)
        faulty = np.repeat(np.arange(number), lengths)[states == values.MALFORMED]
        state[faulty] = values.MALFORMED
    totals = counts.sum(axis=1)
    state = np.where((counts < 0).any(axis=1) | ~np.isfinite(totals), values.MALFORMED, state)
    state = np.where((state == values.OK) & (totals <= 0), values.MISSING, state)
    native = np.linspace(scale.min, scale.max, max(counts.shape[1], 2))[: counts.shape[1]]
    levels = np.stack([batch.rubric.histogram([one]) for one in batch.scores_of(native, scale)])
    shares = np.nan_to_num(counts / np.where(totals > 0, totals, 1.0)[:, None]) @ levels
    whole = (counts == np.round(counts)).all(axis=1) & (totals > 1)
    return shares, np.where(whole, totals, np.nan), state.astype(np.uint8)
