"""Environment variables between a launcher and its workers. No heavy imports.

A launched stage is one or several processes that run the same `zreward STAGE` with ZREWARD_WORKER
in the environment. The process of rank 0 (the main one) writes outputs and shows progress. Stages
that torchrun or `accelerate launch` starts are processes of one group too, without a launcher.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

WORKER = "ZREWARD_WORKER"
"""Set in a worker: it runs the stage and does not launch it again."""
LAUNCHER = "ZREWARD_LAUNCHER"
"""In a job on a cluster: name of the launcher in launch.yaml that starts processes there."""
TRAINER = "ZREWARD_RAY_TRAIN"
"""In a job on a cluster: set if the job starts workers on several nodes."""
MACHINE_RANK = "ZREWARD_MACHINE_RANK"
"""Rank of this machine among those that the stage's command is started on."""
ERROR_FILE = "ZREWARD_ERROR_FILE"
"""File for the message of a worker's UserError, which the launcher shows once."""
PARENT = "ZREWARD_PARENT"
"""Pid of the launcher on the same machine; the worker terminates with it."""
RUN_STARTED = "ZREWARD_RUN_STARTED"
"""Set in the processes of a `zreward run`, whose stages print their position in it."""
USER_FAULT = 2
"""Exit code of a UserError."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def is_worker() -> bool:
    """Whether a launcher started this process."""
    return WORKER in os.environ


def is_member() -> bool:
    """Whether this process was started as one of a group, as torchrun does."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def owns_run() -> bool:
    """Whether this process holds the stage's lock and tracks its run: one of all machines."""
    return not is_worker() and is_main() and machine_rank() == 0


def machine_rank() -> int:
    """Rank of this machine."""
    return int(os.environ.get(MACHINE_RANK, "0"))


def is_main() -> bool:
    """Whether this process writes outputs: rank 0, or the only process.

    torchrun, accelerate and the launchers here set RANK.
    """
    return os.environ.get("RANK", "0") == "0"


def report_user_error(message: str) -> bool:
    """Pass a message to the launcher; False if there is none and the caller must show it."""
    path = os.environ.get(ERROR_FILE)
    if not path or not is_worker():
        return False
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{path}.{os.getpid()}")
    partial.write_text(message, encoding="utf-8")
    partial.replace(path)  # atomic: several processes may report
    return True


def die_with_parent() -> None:
    """Have the kernel kill this worker when its launcher dies (Linux only)."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(128 + signal.SIGKILL)
