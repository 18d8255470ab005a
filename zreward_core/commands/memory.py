"""Peak memory of a process and everything it starts, sampled in a thread."""

import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil

SAMPLE_EVERY = 1.0
"""Seconds between two samples."""


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
        unit = 1 if sys.platform == "darwin" else 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):  # peaks between two samples
            self.peak = max(self.peak, unit * resource.getrusage(who).ru_maxrss)

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
