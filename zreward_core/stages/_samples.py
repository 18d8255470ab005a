"""Images sampled from a generator by all processes, stored as shards. Not a stage."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.loading import load_generator
from zreward_core.diffusion.sampling import sample
from zreward_core.images import decode, encode_png
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.shards import compute_shards

SAMPLES = pa.schema([("bytes", pa.binary())])
"""A PNG file in each row."""


def sample_shards(
    checkpoint: Checkpoint,
    name: str,
    load: Callable[[], ImageGenerator],
    prompts: Sequence[str],
    seeds: Sequence[int],
    shard_size: int,
    label: str,
    **settings: Any,
) -> list[Path]:
    """Shards (``SAMPLES``) of one image for each prompt and seed, in order.

    Args:
        checkpoint, name, label: see ``compute_shards``.
        load: the generator; not called by a process that finds all shards.
        shard_size: images of a shard.
        settings: further arguments of ``sample``.
    """
    generator = cache(load)

    def compute(part: slice) -> pd.DataFrame:
        images = sample(generator(), prompts[part], seeds[part], **settings)
        files = [encode_png(pixels.permute(1, 2, 0).numpy()) for pixels in images]
        return pd.DataFrame({"bytes": files})

    return compute_shards(checkpoint, name, len(prompts), shard_size, SAMPLES, compute, label)


def on_device(folder: Path, dtype: str) -> ImageGenerator:
    """The generator of a folder, on this process's device."""
    generator = load_generator(folder, getattr(torch, dtype))
    generator.pipe.to(pick_device())
    return generator


def stored_files(shards: Sequence[Path]) -> Iterator[bytes]:
    """The PNG files of shards."""
    for shard in shards:
        yield from pq.read_table(shard)["bytes"].to_pylist()


def stored_images(shards: Sequence[Path], part: range) -> Iterator[np.ndarray]:
    """Images [H, W, 3] uint8 at consecutive indices of shards, each decoded when it is taken."""
    return map(decode, islice(stored_files(shards), part.start, part.stop))
