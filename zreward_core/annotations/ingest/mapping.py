"""From records to ratings, comparisons and opinions, a column at a time.

Pure: records and settings in, tables out. Items are numbered by an ``ItemIndex``, which resolves
images with the function that it was given.

Shapes: N records.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import Records, matched
from zreward_core.annotations.ingest.accounting import WRITTEN, Judgements
from zreward_core.annotations.ingest.batch import (
    CODE,
    GOOD,
    Batch,
    Results,
    constant,
    joined,
    name_of,
)
from zreward_core.annotations.ingest.column_settings import Cell, Columns, Slot, as_word
from zreward_core.annotations.ingest.comparison_rows import comparison_rows
from zreward_core.annotations.ingest.items import ItemIndex, Items
from zreward_core.annotations.ingest.list_cells import number_lists, text_lists
from zreward_core.annotations.ingest.opinion_rows import opinion_rows
from zreward_core.annotations.ingest.own_scales import by_scale
from zreward_core.annotations.ingest.rating_rows import rating_rows
from zreward_core.annotations.ingest.rounded_identifiers import are_rounded
from zreward_core.annotations.ingest.settings import RowFilter, Source
from zreward_core.annotations.ingest.totals import are_totals
from zreward_core.annotations.ingest.values import (
    MALFORMED,
    OK,
    ROUNDED,
    Texts,
    identifiers,
    no_texts,
    texts,
)
from zreward_core.config import UserError
from zreward_core.rubric import Rubric


def cells_of(source: Source) -> list[Cell]:
    """All cells of the settings."""
    found = cells_in([source.columns, source.dimension])
    return found + cells_in(
        [source.prompts and source.prompts.column, source.only and source.only.column]
    )


def cells_in(settings: Any) -> list[Cell]:
    """All cells of some settings."""
    if isinstance(settings, Cell):
        return [settings]
    if isinstance(settings, list | tuple):
        parts = list(settings)
    elif hasattr(settings, "__pydantic_fields__"):
        parts = [getattr(settings, name) for name in type(settings).model_fields]
    else:
        parts = []
    return [cell for part in parts for cell in cells_in(part)]


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
    records = _with_constants(records, source, path)
    kept = np.flatnonzero(used & _selected(records, source.only))
    num_empty, num_filtered = int((~used).sum()), int(used.sum()) - len(kept)
    batch = _batch(records, source, path, rubric, prompt_of)
    if records.num_native is None:
        totals = kept[are_totals(batch)[kept]]
        if len(totals):
            batch.set_aside(np.full(len(totals), CODE["total"]), totals, batch.refs.take(totals))
            kept = np.setdiff1d(kept, totals)
    if len(kept) < len(records):
        batch = batch.select(kept)
    compared = _compared(batch)
    for rows, map_part in ((~compared, _scaled_judgements), (compared, comparison_rows)):
        if rows.any():
            map_part(batch if rows.all() else batch.select(np.flatnonzero(rows)), index)
    results = batch.results
    if results.parts["quarantine"]:  # a second header is quarantined: its score is not a number
        _require_one_header(records, path)
    results.ignored.update(records.ignored)
    results.ignored.update(empty_line=num_empty, skipped=num_filtered)
    if records.broken:
        refs = pa.array([f"{path}#{ref}" for ref, _ in records.broken], pa.string())
        reasons = constant("malformed_record", len(refs))
        batch.quarantine(refs, reasons, [text for _, text in records.broken])
    num_native = results.num_native + len(records.broken) + num_empty + num_filtered
    num_native += sum(records.ignored.values())
    tables = {
        name: pa.concat_tables(results.parts[name] or [schema.empty_table()])
        for name, schema in WRITTEN.items()
    }
    return Judgements(
        **tables,
        ignored=+results.ignored,
        num_native=num_native if records.num_native is None else records.num_native,
        num_repaired=records.num_repaired,
        num_broken=len(records.broken),
        findings=results.findings,
    )


def _require_one_header(records: Records, path: str) -> None:
    """Check that no record is the header of a second table with its columns in another order.

    Raises:
        UserError: one is; by the order of the first table, its rows would be read wrongly.
    """
    columns = {
        name: texts(column)
        for name, column in records.columns.items()
        if not name.startswith("\0")
        and (pa.types.is_dictionary(column.type) or pa.types.is_string(column.type))
    }
    names = pa.array(list(columns), pa.string())
    others, strange = np.zeros(len(records), dtype=int), np.zeros(len(records), dtype=bool)
    for name, cells in columns.items():
        is_name = np.append(np.asarray(pc.is_in(cells.values, names)), True)  # last: no cell
        is_own = np.append(np.asarray(pc.equal(cells.values, name)), True)
        others += (is_name & ~is_own)[cells.codes]
        strange |= ~is_name[cells.codes]
    found = np.flatnonzero((others >= 2) & ~strange)
    if len(found):
        raise UserError(
            f"{path}, {records.refs[int(found[0])]}: a second header with its columns in another "
            "order; put each table into a file of its own"
        )


def _batch(
    records: Records, source: Source, path: str, rubric: Rubric, prompt_of: dict[str, str]
) -> Batch:
    number = len(records)
    shared = {}
    for name in ("prompt", "generator", "item", "annotator_id", "submitted_at"):
        cell = getattr(source.columns, name)
        if cell is None:
            shared[name] = no_texts(number)
        elif name in ("item", "annotator_id"):
            shared[name] = identifiers(records.columns[cell.key], cell)
        else:
            shared[name] = texts(records.columns[cell.key], cell, trim=name != "prompt")
    if source.prompts is not None:
        cell = source.prompts.column
        shared["prompt"] = _looked_up(identifiers(records.columns[cell.key], cell), prompt_of)
    faults = np.zeros(number, dtype=np.uint8)
    if records.faults is not None:
        faults = np.array([CODE[one] if one else GOOD for one in records.faults], dtype=np.uint8)
    for cell in _identifying(source):
        lost = are_rounded(records.columns[cell.key])
        faults[(faults == GOOD) & lost] = CODE["rounded_identifier"]
    refs = joined(path, "#", records.refs)
    return Batch(records, source, rubric, shared, refs, faults, Results())


def _identifying(source: Source) -> list[Cell]:
    """Cells whose values must be exact, since equal ones are the same annotator, item or image."""
    columns = source.columns
    found = [columns.annotator_id, columns.item, columns.image, columns.image_a, columns.image_b]
    found += [source.prompts.column if source.prompts else None]
    return [cell for cell in found if cell is not None]


def _compared(batch: Batch) -> np.ndarray:
    """[N] whether a record is a comparison; where both kinds occur, those with two images are."""
    columns: Columns = batch.source.columns
    if columns.vote is None or columns.score is None:
        return np.full(len(batch.records), columns.vote is not None)
    return batch.texts(columns.image_a).codes >= 0


def _scaled_judgements(batch: Batch, index: ItemIndex) -> None:
    for part in by_scale(batch):
        _judgements(part, index)


def _judgements(batch: Batch, index: ItemIndex) -> None:
    """Map ratings and opinions."""
    columns, number, shared = batch.source.columns, len(batch.records), batch.shared
    image = batch.texts(columns.image)
    items = index.look_up(shared["prompt"], image, shared["generator"], shared["item"], batch.refs)
    if columns.score is not None:
        _map_slot(batch, items, Slot(column=columns.score), batch.refs)
    elif columns.scores is not None:
        slot = Slot(scores=columns.scores, annotator_ids=columns.annotator_ids)
        _map_slot(batch, items, slot, batch.refs)
    elif columns.wide:
        for slot in columns.wide:
            assert slot.cell is not None
            _map_slot(
                batch, items, slot, joined(batch.refs, " ", constant(name_of(slot.cell), number))
            )
    else:  # a histogram needs no mean
        slot = Slot.model_construct(mean=columns.mean, std=columns.std, std_scale=columns.std_scale)
        opinion_rows(batch, items, slot, batch.refs)


def _map_slot(batch: Batch, items: Items, slot: Slot, refs: pa.Array) -> None:
    rows = np.arange(len(batch.records))
    if slot.column is not None:
        score, state = batch.numbers(slot.column)
        if _is_unscaled(batch, slot):
            state = np.where(state == OK, MALFORMED, state).astype(np.uint8)
        rating_rows(batch, items, slot, rows, score, state, refs)
    elif slot.scores is not None:
        column = batch.column(slot.scores)
        score, state, lengths = number_lists(column, slot.scores, batch.source.decimal)
        raters = None
        if slot.annotator_ids is not None:
            raters, fitting = _raters(batch, slot.annotator_ids, lengths)
            state = np.where(np.repeat(fitting, lengths), state, MALFORMED)
            state = np.where((state == OK) & are_rounded(raters), ROUNDED, state)
        rows = np.repeat(rows, lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
        votes = joined(refs.take(pa.array(rows)), " vote ", place)
        rating_rows(batch, items, slot, rows, score, state, votes, raters)
    else:
        opinion_rows(batch, items, slot, refs)


def _is_unscaled(batch: Batch, slot: Slot) -> bool:
    """Whether the scores are booleans, which are numbers on a scale from 0 to 1 only."""
    cell, scale = slot.column, batch.scale(slot.scale)
    assert cell is not None
    boolean = pa.types.is_boolean(batch.column(cell).type)
    return boolean and not cell.words and cell.pattern is None and (scale.min, scale.max) != (0, 1)


def _raters(batch: Batch, cell: Cell, lengths: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """[M] raters of the scores in list cells, and [N] whether there are as many as scores."""
    flat, numbers = text_lists(batch.column(cell), cell)
    fitting = numbers == lengths
    starts = np.cumsum(numbers) - numbers
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    index = np.where(np.repeat(fitting, lengths), np.repeat(starts, lengths) + place, -1)
    return flat.take(pa.array(index, mask=index < 0)), fitting | (numbers == 0) & (lengths == 1)


def _with_constants(records: Records, source: Source, path: str) -> Records:
    """Add columns for constants and for values from the file name."""
    added = {}
    for cell in cells_of(source):
        text = cell.value
        if cell.file is not None:
            found = matched(cell.file, Path(path).name, whole=False)
            found = found or matched(cell.file, path, whole=False)
            if found is None:
                raise UserError(
                    f"{path} (source '{source.name}'): its name does not match `file: "
                    f"{cell.file}`; correct the pattern, or select the files by `files`"
                )
            text = found.group(1 if found.re.groups else 0)
        if cell.column is None:
            added[cell.key] = constant(text, len(records)).dictionary_encode()
    return replace(records, columns={**records.columns, **added}) if added else records


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
    cells = texts(records.columns[only.column.key], only.column)
    empty = not {"", as_word(None)}.isdisjoint(only.words)
    counts = np.array([*(as_word(word) in only.words for word in cells.listed()), empty])
    return counts[cells.codes]


def _looked_up(keys: Texts, prompt_of: dict[str, str]) -> Texts:
    found = [prompt_of.get(key) for key in keys.listed()]
    known = np.array([*(prompt is not None for prompt in found), False])
    codes = np.where(known[keys.codes], keys.codes, -1).astype(np.int32)
    return Texts(codes, pa.array(found, pa.string()))
