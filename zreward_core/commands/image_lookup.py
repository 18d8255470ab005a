"""Selected images from shards."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from zreward_core.images import ImageStore


def read_images(image_ids: Iterable[str], folders: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Image id and bytes of the wanted images in the shards of some folders, each once.

    Args:
        image_ids: the wanted images.
        folders: shard folders; those without shards are skipped.
    """
    wanted = set(image_ids)
    store = ImageStore(*(folder for folder in folders if any(folder.glob("*.parquet"))))
    for identifier in store:
        if identifier in wanted:
            yield identifier, store.content(identifier)
