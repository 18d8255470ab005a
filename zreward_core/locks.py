"""Locks of files that the system releases when their holder dies, on any machine (``flock``).

On a file system without them nothing is locked: a file that merely exists would stay after its
holder has died, and a shard of a dead machine would never be computed.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import IO, Any

from filelock import AcquireReturnProxy, BaseFileLock, SoftFileLock

from zreward_core.config import UserError

UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""Errors of a file system without such locks."""


def acquire(lock: BaseFileLock, timeout: float = -1) -> AcquireReturnProxy:
    """Acquire a lock; it is released by its ``release`` or the end of a ``with`` block.

    Args:
        timeout: seconds to wait; 0 for none, negative for no limit.

    Raises:
        Timeout: another process holds it.
        UserError: the file system has no such locks.
    """
    path = Path(lock.lock_file)
    try:
        held = lock.acquire(timeout=timeout)
    except OSError as error:
        raise _explained(error, path) from None
    if isinstance(lock, SoftFileLock):  # filelock falls back to the existence of a file
        lock.release()
        raise _explained(OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)), path)
    return held


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file if it is free; returns whether it was.

    Raises:
        UserError: the file system has no such locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _explained(error, Path(file.name)) from None
    return True


def _explained(error: OSError, path: Path) -> OSError | UserError:
    if error.errno not in UNSUPPORTED:
        return error
    return UserError(
        f"{path.absolute().parent}: its file system does not support locks (flock:"
        f" {error.strerror}), which the processes of a project need: mount it with locks (Lustre:"
        " the option 'flock'), or move the project to a file system that has them"
    )
