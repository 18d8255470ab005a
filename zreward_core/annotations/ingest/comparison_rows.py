"""Comparisons of a batch: which of two images is preferred.

Shapes: N records.
"""

import numpy as np
import pyarrow as pa

from zreward_core.annotations.ingest.batch import (
    CODE,
    GOOD,
    SKIPPED,
    Batch,
    add_item_faults,
    constant,
    item_columns,
    joined,
    names_of,
)
from zreward_core.annotations.ingest.column_settings import VoteColumn, as_word
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.values import Texts, no_texts
from zreward_core.schemas import CANDIDATES, COMPARISONS


def comparison_rows(batch: Batch, index: ItemIndex) -> None:
    """Map the votes of all records."""
    columns, number = batch.source.columns, len(batch.records)
    assert columns.vote is not None
    rows = np.arange(number)
    dimension, reasons = batch.dimensions(None, rows)
    answers, faults = _answers(batch, columns.vote)
    answers, faults = _winners(batch, columns.vote, answers, faults)
    reasons = np.where(reasons != GOOD, reasons, faults)
    if columns.vote.column is not None:
        unread = (reasons == CODE["malformed_record"]) & (faults == reasons)
        batch.note_unread("vote", columns.vote.column, rows, batch.refs, unread)
    sides = []
    for side in "ab":
        image = batch.texts(getattr(columns, f"image_{side}"))
        generator = batch.texts(getattr(columns, f"generator_{side}") or columns.generator)
        refs = joined(batch.refs, " ", constant(side, number))
        found = index.look_up(batch.shared["prompt"], image, generator, no_texts(number), refs)
        add_item_faults(reasons, found, rows)
        sides.append(found.item_ids.take(pa.array(found.codes)))
        _, first = np.unique(found.codes, return_index=True)
        names = item_columns(batch, found, first) | {"generator": generator.take(first)}
        batch.results.parts["compared_items"].append(pa.table(names, schema=CANDIDATES))
    good = np.flatnonzero(reasons == GOOD)
    table = {
        "item_a": sides[0].take(good),
        "item_b": sides[1].take(good),
        "dimension": names_of(batch.rubric, dimension[good]),
        "vote": answers.take(good),
        "annotator_id": batch.shared["annotator_id"].take(good),
        "source": constant(batch.source.name, len(good)),
        "row_ref": batch.refs.take(good),
    }
    batch.results.parts["comparisons"].append(pa.table(table, schema=COMPARISONS))
    batch.set_aside(reasons, rows, batch.refs)


def _winners(
    batch: Batch, vote: VoteColumn, answers: pa.Array, faults: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """[N] answers and [N] fault codes; answers that name one side's image or generator are read."""
    rows = np.flatnonzero(faults == CODE["malformed_record"])
    if not len(rows):
        return answers, faults
    given = [as_word(word) for word in batch.texts(vote.column).take(rows).to_pylist()]
    named: list[set[str]] = [set() for _ in rows]
    columns = batch.source.columns
    for side in "ab":
        for cell in (getattr(columns, f"image_{side}"), getattr(columns, f"generator_{side}")):
            names = batch.texts(cell).take(rows).to_pylist()
            for place, name in enumerate(names):
                if name is not None and as_word(name) == given[place]:
                    named[place].add(side)
    found = answers.to_pylist()
    faults = faults.copy()
    for row, sides in zip(rows, named, strict=True):
        if len(sides) == 1:
            (found[row],) = sides
            faults[row] = GOOD
    return pa.array(found, pa.string()), faults


def _answers(batch: Batch, vote: VoteColumn) -> tuple[pa.Array, np.ndarray]:
    """[N] a, b, tie or both_bad, and [N] fault codes."""
    number = len(batch.records)
    if vote.column is None:
        return constant(vote.value, number), np.full(number, GOOD, dtype=np.uint8)
    cells = batch.texts(vote.column)
    words = [as_word(word) for word in cells.listed()]
    faults = [
        GOOD if vote.map.get(word) else SKIPPED if word in vote.map else CODE["malformed_record"]
        for word in words
    ]
    answers = Texts(cells.codes, pa.array([vote.map.get(word) for word in words], pa.string()))
    return answers.take(), np.array([*faults, CODE["missing_value"]], dtype=np.uint8)[cells.codes]
