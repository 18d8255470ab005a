"""Stale lock files of a killed DVC process, which DVC neither ignores nor removes."""

import json
from collections.abc import Callable
from pathlib import Path

from zreward_core.dvc import (
    RWLOCK,
    is_alive,
    is_locked,
    process_name,
    read_rwlock,
    rwlock_entries,
)

GUARD = Path(f"{RWLOCK}.lock")


def has_stage(pid: int) -> bool:
    """Whether a process has locked the outs of a stage."""
    return any(info["pid"] == pid for _, info in rwlock_entries(read_rwlock() or {}, "write"))


def dead_processes(content: dict) -> dict[int, dict]:
    """Entries of the rwlock by pid whose process no longer exists."""
    return {info["pid"]: info for mode in ("read", "write")
            for _, info in rwlock_entries(content, mode) if not is_alive(info)}  # fmt: skip


def repair_rwlock(say: Callable[[str], None]) -> None:
    """Remove the entries of dead processes from the rwlock, or the file if it is corrupt.

    DVC compares pids only, so a reused pid would block it forever, and it fails on a corrupt file.
    """
    if not RWLOCK.exists() or is_locked(GUARD):
        return
    content = read_rwlock()
    if content is None:
        RWLOCK.unlink()
        say(f"removed {RWLOCK}, which a killed DVC process left corrupt")
        return
    if dead := dead_processes(content):
        read = {
            path: [info for info in infos if info["pid"] not in dead]
            for path, infos in content.get("read", {}).items()
        }
        write = {
            path: info for path, info in content.get("write", {}).items() if info["pid"] not in dead
        }
        read = {path: infos for path, infos in read.items() if infos}
        RWLOCK.write_text(json.dumps({"read": read, "write": write}))
        names = ", ".join(process_name(info) for info in dead.values())
        say(f"released the DVC locks of a process that no longer exists: {names}")
