"""Dimensions with their own scales, such as the controls of a Label Studio project.

Shapes: N records.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from zreward_core.annotations.ingest.batch import Batch
from zreward_core.annotations.ingest.values import texts


def by_scale(batch: Batch) -> Iterator[Batch]:
    """The records grouped by scale; every record is in exactly one group."""
    asked = batch.source.dimension
    if asked is None or isinstance(asked, str) or not asked.scales:
        yield batch
        return
    words = texts(batch.column(asked.column), asked.column)
    scales = [asked.scales.get(word, batch.source.scale) for word in words.listed()]
    scales.append(batch.source.scale)  # a code of -1 selects the last one
    distinct = [one for n, one in enumerate(scales) if one not in scales[:n]]
    places_N = np.array([distinct.index(one) for one in scales])[words.codes]
    for place, scale in enumerate(distinct):
        rows = np.flatnonzero(places_N == place)
        if len(rows):
            source = batch.source.model_copy(update={"scale": scale})
            yield replace(batch.select(rows), source=source)
