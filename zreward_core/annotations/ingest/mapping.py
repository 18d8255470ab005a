"""From records to ratings, comparisons and opinions, a column at a time.

Pure: records and settings in, tables out; what the images and prompts are is asked of an
``ItemIndex``.

Shapes: N records.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import Records
from zreward_core.annotations.ingest import values
from zreward_core.annotations.ingest.accounting import TABLES, Judgements
from zreward_core.annotations.ingest.batch import (
    Batch,
    joined,
    no_items,
    quarantine_rows,
    suffixed,
)
from zreward_core.annotations.ingest.comparison_rows import comparison_rows
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.opinion_rows import opinion_rows
from zreward_core.annotations.ingest.rating_rows import rating_rows
from zreward_core.annotations.ingest.settings import Cell, Slot, Source, as_word
from zreward_core.annotations.ingest.values import Texts, no_texts, texts
from zreward_core.rubric import Rubric


def wanted_columns(source: Source) -> tuple[str, ...]:
    """Names of all columns that the settings speak of."""
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
        records: columns as the source has them.
        source: says which column holds what.
        path: the file, for references.
        rubric: dimensions and scale.
        index: finds items.
        prompt_of: prompts by key, for sources whose prompts lie in a second file.
    """
    records, num_empty = _without_empty(records)
    records, num_skipped = _only(records, source)
    columns = source.columns
    shared = {
        name: texts(records.columns[cell.column], cell, trim=name != "prompt")
        if (cell := getattr(columns, name)) is not None
        else no_texts(len(records))
        for name in ("prompt", "generator", "item", "annotator_id", "submitted_at")
    }
    if source.prompts is not None:
        cell = source.prompts.column
        shared["prompt"] = _looked_up(texts(records.columns[cell.column], cell), prompt_of)
    refs = joined(f"{path}#{records.unit} ", records.numbers)
    batch = Batch(records, source, rubric, path, shared, no_items(), refs)
    batch.ignored.update(empty_line=num_empty, skipped=num_skipped)
    if columns.vote is not None:
        comparison_rows(batch, index)
    else:
        image = texts(batch.column(columns.image), columns.image)
        if columns.image is None:
            image = no_texts(len(records))
        batch.items = index.look_up(
            shared["prompt"], image, shared["generator"], shared["item"], refs
        )
        _judgements(batch)
    for number, text in records.broken:
        place = f"{path}#{records.unit} {number}"
        batch.parts["quarantine"].append(
            quarantine_rows(source.name, [place], "malformed_record", [text])
        )
    tables = {
        name: pa.concat_tables(batch.parts[name] or [schema.empty_table()])
        for name, schema in TABLES.items()
    }
    return Judgements(
        **tables,
        ignored=+batch.ignored,
        num_native=batch.num_native + len(records.broken) + num_empty + num_skipped,
        num_repaired=records.num_repaired,
    )


def _judgements(batch: Batch) -> None:
    columns, number = batch.source.columns, len(batch.records)
    if columns.score is not None:
        score, state = values.numbers(batch.column(columns.score))
        rating_rows(batch, Slot(column=columns.score), np.arange(number), score, state, batch.refs)
    elif columns.scores is not None:
        score, state, lengths = values.number_lists(batch.column(columns.scores))
        rows = np.repeat(np.arange(number), lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
        refs = suffixed(batch.refs.take(rows), " vote ", place)
        rating_rows(batch, Slot(column=columns.scores), rows, score, state, refs)
    elif columns.wide:
        for slot in columns.wide:
            cell = slot.column or slot.mean
            assert cell is not None
            refs = pc.binary_join_element_wise(batch.refs, f" {cell.column}", "")
            if slot.column is None:
                opinion_rows(batch, slot, refs)
            else:
                score, state = values.numbers(batch.column(slot.column))
                rating_rows(batch, slot, np.arange(number), score, state, refs)
    else:
        mean = columns.mean or Cell(column="")
        opinion_rows(batch, Slot(mean=mean, std=columns.std), batch.refs)


def _without_empty(records: Records) -> tuple[Records, int]:
    """Leave out records of which every wanted column is empty."""
    used = np.zeros(len(records), dtype=bool)
    for column in records.columns.values():
        if used.all():
            break
        used |= (
            texts(column).codes >= 0
            if _flat(column.type)
            else column.is_valid().to_numpy(zero_copy_only=False)
        )
    if used.all():
        return records, 0
    return _part(records, used), int((~used).sum())


def _only(records: Records, source: Source) -> tuple[Records, int]:
    """Leave out records that by the set's own account do not count."""
    if source.only is None:
        return records, 0
    said = texts(records.columns[source.only.column.column], source.only.column)
    counts = np.array([*(as_word(word) in source.only.words for word in said.listed()), False])
    used = counts[said.codes]
    return _part(records, used), int((~used).sum())


def _part(records: Records, used: np.ndarray) -> Records:
    kept = np.flatnonzero(used)
    columns = {name: column.take(pa.array(kept)) for name, column in records.columns.items()}
    return Records(
        columns, records.numbers[kept], records.unit, records.broken, records.num_repaired
    )


def _flat(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_null(kind))


def _looked_up(keys: Texts, prompt_of: dict[str, str]) -> Texts:
    found = [prompt_of.get(key) for key in keys.listed()]
    known = np.array([*(prompt is not None for prompt in found), False])
    codes = np.where(known[keys.codes], keys.codes, -1).astype(np.int32)
    return Texts(codes, pa.array(found, pa.string()))
