"""Work that is divided over processes by shards; each finished shard is a checkpoint."""

from collections.abc import Callable, Iterator
from typing import Any

from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import processes, wait
from zreward_core.runtime.progress import track


def compute_shards(
    checkpoint: Checkpoint,
    name: str,
    count: int,
    size: int,
    compute: Callable[[slice], dict[str, Any]],
) -> list[str]:
    """Compute this process's shards of ``count`` items and wait for those of the others.

    A shard's content must not depend on the number of processes.

    Args:
        checkpoint: holds the shards; those it has are not computed again.
        name: of the work, for the shards and the progress bar.
        count: items.
        size: items of a shard.
        compute: content of the shard of a slice of the items.

    Returns:
        the names of all shards in ``checkpoint``, in order.
    """
    starts = range(0, count, size)
    names = [f"{name}{index:05d}" for index in range(len(starts))]
    state = processes()
    own = range(state.process_index, len(starts), state.num_processes)
    for index in track(own, name):
        if checkpoint.load(names[index]) is None:
            start = starts[index]
            content = compute(slice(start, min(start + size, count)))
            checkpoint.save(names[index], content, by_any=True)
    wait()
    return names


def read_shards(checkpoint: Checkpoint, names: list[str]) -> Iterator[dict[str, Any]]:
    """The contents of shards, one at a time."""
    for name in names:
        content = checkpoint.load(name)
        assert content is not None, f"shard {name} is missing"
        yield content
