"""Memory of a machine itself, where processes keep what is not on their GPUs.

A base in the precision in which it is stored is a mapped file, which all processes of a machine
share. A trained model is stored merged in float32: loaded in bfloat16 it is in the memory of each
process until it is on the GPU. The main process merges a model in float32 when it saves it.
"""

from zreward_core.images.shards import HELD_BYTES
from zreward_core.training.images import AHEAD_BYTES, KEPT_BYTES

PROCESS_BYTES = 2e9
"""Of a process without models: Python, its libraries and those of the GPU."""
IMAGE_BUFFERS = KEPT_BYTES + AHEAD_BYTES + HELD_BYTES
"""Images of a training process that are prepared, or read ahead."""


def host_bytes(processes: int, each: float, once: float = 0) -> float:
    """Bytes of a machine.

    Args:
        processes: on the machine.
        each: what a process holds at most.
        once: what is shared, or held by the main process alone.
    """
    return processes * (PROCESS_BYTES + each) + once


def pixel_bytes(images: float, size: tuple[int, int]) -> float:
    """Bytes of decoded images."""
    return 3.0 * images * size[0] * size[1]
