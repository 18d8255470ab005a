"""What a process knows of the launcher that started it. No torch, nothing is imported for it.

A launched stage is one or several processes that run the same `zreward STAGE` with ZREWARD_WORKER
in the environment. The one of rank 0 speaks: it writes outputs and shows progress.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

WORKER = "ZREWARD_WORKER"
"""Set in a worker: the stage runs here and is not launched again."""
LAUNCHER = "ZREWARD_LAUNCHER"
"""In a job of a cluster: name of the launcher in launch.yaml that starts the processes there."""
ERROR_FILE = "ZREWARD_ERROR_FILE"
"""Where a worker leaves the message of a UserError, for the launcher to show it once."""
PARENT = "ZREWARD_PARENT"
"""Process that started a worker on the same machine; without it the worker has no purpose."""
USER_FAULT = 2
"""Exit code that means the user's fault."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def is_worker() -> bool:
    """Whether a launcher started this process."""
    return WORKER in os.environ


def is_main() -> bool:
    """Whether this process writes outputs: always, unless it is one of several and not the first.

    RANK is what torchrun, accelerate and the launchers here set.
    """
    return os.environ.get("RANK", "0") == "0"


def report_user_error(message: str) -> bool:
    """Leave a message for the launcher; False where there is none and it must be shown here."""
    path = os.environ.get(ERROR_FILE)
    if not path or not is_worker():
        return False
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{path}.{os.getpid()}")
    partial.write_text(message, encoding="utf-8")
    partial.replace(path)  # whole, whichever of several processes comes last
    return True


def die_with_parent() -> None:
    """Have the kernel end this worker when its launcher is killed (Linux; elsewhere nothing)."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(128 + signal.SIGKILL)
