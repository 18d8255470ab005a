"""Some images out of many: only the shards that hold them are read, batch by batch."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 64


def read_images(image_ids: Iterable[str], folders: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Image id and bytes of those images that lie in the shards below the folders, each once.

    Args:
        image_ids: the images wanted.
        folders: shard folders; one that does not exist holds nothing.
    """
    wanted = set(image_ids)
    for shard in (path for folder in folders for path in sorted(folder.glob("*.parquet"))):
        held = pq.read_table(shard, columns=["image_id"])["image_id"].to_pylist()
        if wanted.isdisjoint(held):
            continue
        for batch in pq.ParquetFile(shard).iter_batches(BATCH_ROWS, columns=["image_id", "bytes"]):
            chosen = batch.filter(pc.is_in(batch["image_id"], pa.array(wanted, pa.string())))
            for name, content in zip(*(column.to_pylist() for column in chosen), strict=True):
                if name in wanted:
                    wanted.discard(name)
                    yield name, content
