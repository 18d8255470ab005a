"""Work that is divided over workers by shards; each finished shard is a Parquet file.

Workers are the processes of one launch, on machines that share a file system. A worker locks the
shard that it computes. The system releases the lock of a worker that dies, and another worker
computes its shard.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import processes
from zreward_core.runtime.progress import track
from zreward_core.runtime.worker import is_main

POLL_SECONDS = 0.5
"""Time between two looks at the shards of other workers."""


def compute_shards(
    checkpoint: Checkpoint,
    name: str,
    count: int,
    size: int,
    schema: pa.Schema,
    compute: Callable[[slice], pd.DataFrame],
    label: str | None = None,
) -> list[Path]:
    """Compute shards of ``count`` items until all exist, made by this worker or by others.

    A shard's content must not depend on the number of workers.

    Args:
        checkpoint: holds the shards; those it has are not computed again.
        name: of the work, for the shards.
        count: items.
        size: items of a shard.
        schema: columns of a shard.
        compute: rows of the shard of a slice of the items.
        label: of the progress bar, which counts the items that all workers have computed: what they
            are, in words; ``name`` if None.

    Returns:
        the files of all shards, in order. The main process may read them; the others find nothing
        there once it has cleared the checkpoint.
    """
    starts = range(0, count, size)
    names = [f"{name}{index:05d}" for index in range(len(starts))]
    slices = [slice(start, min(start + size, count)) for start in starts]
    sizes = {one: part.stop - part.start for one, part in zip(names, slices, strict=True)}

    def computed() -> int:
        return sum(sizes[one] for one in sizes.keys() & checkpoint.tables())

    with track((), label or name, count, computed()) as bar:
        for index in _missing(checkpoint, names):
            with checkpoint.claim(names[index]) as claimed:
                if claimed and not checkpoint.has_table(names[index]):
                    checkpoint.save_table(names[index], compute(slices[index]), schema)
            bar.update(computed() - bar.n)
        bar.update(count - bar.n)
    return [checkpoint.table_path(one) for one in names]


def _missing(checkpoint: Checkpoint, names: list[str]) -> Iterator[int]:
    """Indices of the shards that do not exist when they are asked for, until all exist.

    Workers start at different places. A shard that another worker computes is asked for again.
    """
    state = processes()
    first = len(names) * state.process_index // state.num_processes
    left = [*range(first, len(names)), *range(first)]
    while left:
        for index in left:
            if not is_main() and not checkpoint.folder.is_dir():
                return  # the main process has read all shards and removed them
            if not checkpoint.has_table(names[index]):
                yield index
        left = [index for index in left if not checkpoint.table_path(names[index]).is_file()]
        if left:
            time.sleep(POLL_SECONDS)
