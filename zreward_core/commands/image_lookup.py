"""Selected images from shards; shards without any of them are not read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 64


def read_images(image_ids: Iterable[str], folders: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Image id and bytes of the wanted images in the shards of some folders, each once.

    Args:
        image_ids: the wanted images.
        folders: shard folders; missing folders are skipped.
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
