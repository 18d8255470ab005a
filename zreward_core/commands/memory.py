"""Peak memory of a process and everything it starts, sampled in a thread."""

import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

SAMPLE_EVERY = 1.0
"""Seconds between two samples."""
UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of ``ru_maxrss``."""


class MemorySampler:
    """Peak resident memory, in bytes, of this process and its descendants within the block."""

    def __init__(self, after_sample: Callable[[], None] | None = None) -> None:
        self.peak = 0
        self._after_sample = after_sample
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        children = UNIT * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.peak = max(self.peak, own_peak(), children)  # peaks between two samples

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(SAMPLE_EVERY):
            memory = 0
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    memory += one.memory_info().rss
            self.peak = max(self.peak, memory)
            if self._after_sample is not None:
                self._after_sample()


def own_peak() -> int:
    """Peak resident memory of this process since it started, in bytes.

    VmHWM on Linux, where ``ru_maxrss`` begins at the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
