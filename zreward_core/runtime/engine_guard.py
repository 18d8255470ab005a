"""Runs a server and ends it, with all its processes, when the input of this process is closed.

Started as a script; it imports nothing of the project. The stage holds the other end of the input,
which the system closes when the stage ends, even if it is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

SHUTDOWN_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL."""


def main(command: list[str]) -> None:
    """Run the command in a process group of its own; exit with its exit code."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    code = server.wait()
    _signal_group(server.pid, signal.SIGKILL)  # processes that the server has left behind
    os._exit(code if code >= 0 else 128 - code)


def _end_with_input(server: subprocess.Popen) -> None:
    while os.read(0, 1024):
        pass
    _signal_group(server.pid, signal.SIGTERM)
    try:
        server.wait(SHUTDOWN_TIMEOUT)
    except subprocess.TimeoutExpired:
        _signal_group(server.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    main(sys.argv[1:])
