"""Waiting for servers that tests start."""

import subprocess
import time
import urllib.request


def wait_for(address: str, process: subprocess.Popen, seconds: float) -> None:
    """Wait until an address answers; fails if the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
