"""From records to ratings, comparisons and opinions, a column at a time.

Pure: records and settings in, tables out. Items are numbered by an ``ItemIndex``, which resolves
images with the function that it was given.

Shapes: N records.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from zreward_core.annotations.formats.records import Records
from zreward_core.annotations.ingest import values
from zreward_core.annotations.ingest.accounting import WRITTEN, Judgements
from zreward_core.annotations.ingest.batch import CODE, GOOD, Batch, Results, constant, joined
from zreward_core.annotations.ingest.comparison_rows import comparison_rows
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.opinion_rows import opinion_rows
from zreward_core.annotations.ingest.own_scales import by_scale
from zreward_core.annotations.ingest.rating_rows import rating_rows
from zreward_core.annotations.ingest.settings import Cell, Columns, RowFilter, Slot, Source, as_word
from zreward_core.annotations.ingest.values import Texts, no_texts, texts
from zreward_core.rubric import Rubric


def wanted_columns(source: Source) -> tuple[str, ...]:
    """Names of all columns that the settings name."""
    found: dict[str, None] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Cell):
            found.setdefault(value.column)
        elif isinstance(value, list | tuple):
            for one in value:
                collect(one)
        elif hasattr(value, "__pydantic_fields__"):
            for name in type(value).model_fields:
                collect(getattr(value, name))

    collect([source.columns, source.dimension])
    collect([source.prompts and source.prompts.column, source.only and source.only.column])
    return tuple(found)


def map_records(
    records: Records,
    source: Source,
    path: str,
    rubric: Rubric,
    index: ItemIndex,
    prompt_of: dict[str, str],
) -> Judgements:
    """Map the records of one batch.

    Args:
        records: columns as named in the file.
        source: the meaning of the columns.
        path: the file, for references.
        rubric: dimensions and scale.
        index: items of the source.
        prompt_of: prompts by key, for sources whose prompts are in a second file.
    """
    used = _filled(records)
    kept = np.flatnonzero(used & _selected(records, source.only))
    num_empty, num_filtered = int((~used).sum()), int(used.sum()) - len(kept)
    batch = _batch(records, source, path, rubric, prompt_of)
    if len(kept) < len(records):
        batch = batch.select(kept)
    compared = _compared(batch)
    for rows, map_part in ((~compared, _scaled_judgements), (compared, comparison_rows)):
        if rows.any():
            map_part(batch if rows.all() else batch.select(np.flatnonzero(rows)), index)
    results = batch.results
    results.ignored.update(records.ignored)
    results.ignored.update(empty_line=num_empty, skipped=num_filtered)
    if records.broken:
        refs = pa.array([f"{path}#{ref}" for ref, _ in records.broken], pa.string())
        reasons = constant("malformed_record", len(refs))
        batch.quarantine(refs, reasons, [text for _, text in records.broken])
    num_native = results.num_native + len(records.broken) + num_empty + num_filtered
    tables = {
        name: pa.concat_tables(results.parts[name] or [schema.empty_table()])
        for name, schema in WRITTEN.items()
    }
    return Judgements(
        **tables,
        ignored=+results.ignored,
        num_native=num_native if records.num_native is None else records.num_native,
        num_repaired=records.num_repaired,
    )


def _batch(
    records: Records, source: Source, path: str, rubric: Rubric, prompt_of: dict[str, str]
) -> Batch:
    number = len(records)
    shared = {
        name: texts(records.columns[cell.column], cell, trim=name != "prompt")
        if (cell := getattr(source.columns, name)) is not None
        else no_texts(number)
        for name in ("prompt", "generator", "item", "annotator_id", "submitted_at")
    }
    if source.prompts is not None:
        cell = source.prompts.column
        shared["prompt"] = _looked_up(texts(records.columns[cell.column], cell), prompt_of)
    faults = np.zeros(number, dtype=np.uint8)
    if records.faults is not None:
        faults = np.array([CODE[one] if one else GOOD for one in records.faults], dtype=np.uint8)
    refs = joined(path, "#", records.refs)
    return Batch(records, source, rubric, shared, refs, faults, Results())


def _compared(batch: Batch) -> np.ndarray:
    """[N] whether a record is a comparison; where both kinds occur, those with two images are."""
    columns: Columns = batch.source.columns
    if columns.vote is None or columns.score is None:
        return np.full(len(batch.records), columns.vote is not None)
    return texts(batch.column(columns.image_a), columns.image_a).codes >= 0


def _scaled_judgements(batch: Batch, index: ItemIndex) -> None:
    for part in by_scale(batch):
        _judgements(part, index)


def _judgements(batch: Batch, index: ItemIndex) -> None:
    """Map ratings and opinions."""
    columns, number, shared = batch.source.columns, len(batch.records), batch.shared
    image = no_texts(number)
    if columns.image is not None:
        image = texts(batch.column(columns.image), columns.image)
    items = index.look_up(shared["prompt"], image, shared["generator"], shared["item"], batch.refs)
    rows = np.arange(number)
    if columns.score is not None:
        score, state = values.numbers(batch.column(columns.score))
        rating_rows(batch, items, Slot(column=columns.score), rows, score, state, batch.refs)
    elif columns.scores is not None:
        score, state, lengths = values.number_lists(batch.column(columns.scores))
        rows = np.repeat(rows, lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
        refs = joined(batch.refs.take(pa.array(rows)), " vote ", place)
        rating_rows(batch, items, Slot(column=columns.scores), rows, score, state, refs)
    elif columns.wide:
        for slot in columns.wide:
            cell = slot.column or slot.mean
            assert cell is not None
            refs = joined(batch.refs, " ", constant(cell.column, number))
            if slot.column is None:
                opinion_rows(batch, items, slot, refs)
            else:
                score, state = values.numbers(batch.column(slot.column))
                rating_rows(batch, items, slot, rows, score, state, refs)
    else:
        mean = columns.mean or Cell(column="")
        opinion_rows(batch, items, Slot(mean=mean, std=columns.std), batch.refs)


def _filled(records: Records) -> np.ndarray:
    """[N] whether any wanted column of a record has a value."""
    used = np.zeros(len(records), dtype=bool)
    for column in records.columns.values():
        if used.all():
            break
        nested = pa.types.is_nested(column.type) or pa.types.is_null(column.type)
        used |= (
            column.is_valid().to_numpy(zero_copy_only=False) if nested else texts(column).codes >= 0
        )
    return used


def _selected(records: Records, only: RowFilter | None) -> np.ndarray:
    """[N] whether a record passes the source's filter."""
    if only is None:
        return np.ones(len(records), dtype=bool)
    cells = texts(records.columns[only.column.column], only.column)
    counts = np.array([*(as_word(word) in only.words for word in cells.listed()), False])
    return counts[cells.codes]


def _looked_up(keys: Texts, prompt_of: dict[str, str]) -> Texts:
    found = [prompt_of.get(key) for key in keys.listed()]
    known = np.array([*(prompt is not None for prompt in found), False])
    codes = np.where(known[keys.codes], keys.codes, -1).astype(np.int32)
    return Texts(codes, pa.array(found, pa.string()))
