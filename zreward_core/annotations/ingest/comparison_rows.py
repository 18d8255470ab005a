"""Comparisons of a batch: which of two images was preferred."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.ingest.batch import (
    CODE,
    GOOD,
    SKIPPED,
    Batch,
    add_item_faults,
    constant,
    dimension_of,
    names_of,
    set_aside,
)
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.settings import as_word
from zreward_core.annotations.ingest.values import Texts, no_texts, texts
from zreward_core.schemas import COMPARISONS


def comparison_rows(batch: Batch, index: ItemIndex) -> None:
    columns, source, number = batch.source.columns, batch.source, len(batch.records)
    vote = columns.vote
    assert vote is not None
    rows = np.arange(number)
    dimension, reasons = dimension_of(batch, source.dimension, rows)
    if vote.value is not None:
        answers = pa.array(np.full(number, vote.value, dtype=object), pa.string())
    else:
        assert vote.column is not None
        said = texts(batch.column(vote.column), vote.column)
        words = [as_word(word) for word in said.listed()]
        known = [
            GOOD
            if vote.map.get(word)
            else SKIPPED
            if word in vote.map
            else CODE["malformed_record"]
            for word in words
        ]
        fault = np.array([*known, CODE["missing_value"]], dtype=np.uint8)[said.codes]
        reasons = np.where(reasons != GOOD, reasons, fault)
        answers = Texts(said.codes, pa.array([vote.map.get(w) for w in words], pa.string())).take()
    sides = []
    for side in "ab":
        image_cell = getattr(columns, f"image_{side}")
        made_by = getattr(columns, f"generator_{side}") or columns.generator
        image = texts(batch.column(image_cell), image_cell) if image_cell else no_texts(number)
        generator = texts(batch.column(made_by), made_by) if made_by else no_texts(number)
        refs = pc.binary_join_element_wise(batch.refs, f" {side}", "")
        found = index.look_up(batch.shared["prompt"], image, generator, no_texts(number), refs)
        add_item_faults(reasons, found, rows)
        sides.append(found.item_ids.take(pa.array(found.codes)))
    good = np.flatnonzero(reasons == GOOD)
    batch.parts["comparisons"].append(
        pa.table(
            {
                "item_a": sides[0].take(good),
                "item_b": sides[1].take(good),
                "dimension": names_of(batch.rubric, dimension[good]),
                "vote": answers.take(good),
                "annotator_id": batch.shared["annotator_id"].take(good),
                "source": constant(source.name, len(good)),
                "row_ref": batch.refs.take(good),
            },
            schema=COMPARISONS,
        )
    )
    set_aside(batch, reasons, rows, batch.refs)
