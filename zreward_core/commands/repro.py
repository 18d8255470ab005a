"""`zreward repro`: `dvc repro`, queued, in a process group that is terminated as a whole.

`dvc repro` fails while another one holds the workspace, does not forward signals to its children,
and can leave corrupt lock files when it is killed. `zreward repro` waits for its turn, terminates
the whole process tree on a signal, and repairs the files that a killed run left.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from zreward_core.commands.dvc_cache import lock_files, repair_cache
from zreward_core.commands.dvc_locks import has_stage, repair_rwlock
from zreward_core.config import UserError, read_yaml
from zreward_core.dvc import (
    GRAPH,
    LOCK,
    QUEUE,
    STAGE_LOCKS,
    environment,
    holders,
    program,
    refuse_conflict,
)
from zreward_core.locks import try_lock
from zreward_core.registry.dvc_hashes import file_md5
from zreward_core.registry.pipeline_runs import PIPELINE, pipeline_name
from zreward_core.schemas import replaced

DVC = "zreward_core.commands.dvc_messages"
LOCK_BACKUP = Path(".zreward/dvc.lock.kept")
SHUTDOWN_TIMEOUT = 5.0
"""Seconds between the signal to a process group and SIGKILL."""
POLL = 0.1
FOLLOW_PARENT = "ZREWARD_FOLLOW_PARENT"
"""Environment variable: terminate when the parent process (a Dagster step) dies."""

Say = Callable[[str], None]


def repro(arguments: Sequence[str], say: Say) -> int:
    """Run `dvc repro` in the current folder after the runs that are queued before it.

    Args:
        arguments: targets and options of `dvc repro`.
        say: prints a message about waiting or repairs.

    Returns:
        DVC's exit code, or 128 plus the number of the signal that terminated it.

    Raises:
        UserError: the folder is not a DVC workspace, dvc.lock or dvc.yaml has a merge conflict, or
            dvc.lock is corrupt and has no backup.
    """
    if not Path(".dvc").is_dir():
        raise UserError(
            f"{Path.cwd()} is not a DVC workspace: run in the project root or pass --root"
        )
    with _Signals() as signals, _turn(say, signals) as queue:
        for last_try in (False, True):
            _wait_for_dvc(say, signals)
            _repair(say)
            code, began = _run_group(["repro", *arguments], queue, signals)
            # A `dvc repro` started at the same moment can make ours fail before its first stage.
            if last_try or began or code <= 0 or signals.received or not holders():
                break
    _back_up_lock()
    return 128 - code if code < 0 else code


@contextmanager
def stage_lock(name: str) -> Iterator[None]:
    """Hold the lock of a stage; waits for a process of the stage that outlived its DVC."""
    STAGE_LOCKS.mkdir(parents=True, exist_ok=True)
    with (STAGE_LOCKS / name).open("a+") as file:
        if not try_lock(file):
            file.seek(0)
            sys.stderr.write(f"waiting for {file.read() or 'a process'}, which still runs {name}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"pid {os.getpid()}")
        file.flush()
        yield


class _Signals:
    """Within the block SIGINT and SIGTERM are recorded and do not terminate the process."""

    def __init__(self) -> None:
        self.received = 0
        self._parent = os.getppid() if os.environ.get(FOLLOW_PARENT) else None

    def __enter__(self) -> "_Signals":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number

    def check(self) -> int:
        """The received signal, or 0; the death of a followed parent counts as SIGTERM."""
        if self._parent is not None and os.getppid() != self._parent:
            self.received = self.received or signal.SIGTERM
        return self.received

    def raise_if_received(self) -> None:
        """Exit if a signal was received; for use while waiting."""
        if self.check():
            sys.exit(128 + self.received)


@contextmanager
def _turn(say: Say, signals: _Signals) -> Iterator[int]:
    """Wait for the queue's lock; the kernel releases it when its last holder ends."""
    QUEUE.parent.mkdir(parents=True, exist_ok=True)
    with QUEUE.open("a+") as file:
        reported = ""
        while not try_lock(file):
            signals.raise_if_received()
            file.seek(0)
            doing = "; ".join(holders()) or file.read().strip() or "another run"
            if doing != reported:
                say(f"waiting for {doing}")
                reported = doing
            time.sleep(POLL)
        file.seek(0)
        file.truncate()
        file.write(f"zreward repro (pid {os.getpid()})")
        file.flush()
        yield file.fileno()


def _wait_for_dvc(say: Say, signals: _Signals) -> None:
    reported: list[str] = []
    while busy := holders():
        signals.raise_if_received()
        if busy != reported:
            say("waiting for " + "; ".join(busy))
            reported = busy
        time.sleep(5 * POLL)


def _repair(say: Say) -> None:
    """Repair the files that a run can leave corrupt if it is killed while it writes them.

    Raises:
        UserError: a merge conflict, or a corrupt dvc.lock without a backup; nothing was changed.
    """
    for path in (GRAPH, *lock_files()):
        refuse_conflict(path)
    repair_rwlock(say)
    if LOCK.exists() and not _back_up_lock():
        if not LOCK_BACKUP.is_file():
            raise UserError(f"{LOCK} is corrupt: restore it with `git checkout {LOCK}`")
        corrupt = LOCK_BACKUP.with_name(f"{LOCK}.corrupt-{file_md5(LOCK)[:8]}")
        shutil.copyfile(LOCK, corrupt)
        shutil.copyfile(LOCK_BACKUP, LOCK)
        say(f"restored {LOCK} from its backup: a killed run left it corrupt (kept as {corrupt})")
    repair_cache(say)


def _back_up_lock() -> bool:
    """Copy dvc.lock to its backup if it is valid; returns whether it is."""
    try:
        if not isinstance(read_yaml(LOCK).get("stages"), dict):
            return False
    except UserError:  # missing or malformed
        return False
    with replaced(LOCK_BACKUP) as partial:
        shutil.copyfile(LOCK, partial)
    return True


def _run_group(arguments: Sequence[str], queue: int, signals: _Signals) -> tuple[int, bool]:
    """Run DVC in a process group of its own that inherits the queue's lock.

    Returns:
        Its exit code, and whether it started a stage.
    """
    program("dvc")  # raises if it is not installed
    command = [sys.executable, "-P", "-m", DVC, "--wait-for-lock", *arguments]
    variables = {PIPELINE: pipeline_name("repro"), **environment()}
    variables["PYTHONUNBUFFERED"] = "1"  # stdout and stderr of a log in order
    process = subprocess.Popen(command, env=variables, process_group=0, pass_fds=[queue])
    began = False
    try:
        while process.poll() is None and not signals.check():
            began = began or has_stage(process.pid)
            time.sleep(POLL)
    finally:
        if process.returncode is None or process.returncode < 0:
            end_tree(process, signals.received or signal.SIGTERM)
    code = process.wait()
    return (-signals.received if signals.received else code), began


def end_tree(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a process group and all its descendants; SIGKILL after the timeout."""
    members = _tree(process.pid)
    _signal_all(process.pid, members, number)
    _, alive = psutil.wait_procs(members, timeout=SHUTDOWN_TIMEOUT)
    _signal_all(process.pid, list({*alive, *_tree(process.pid)}), signal.SIGKILL)


def _tree(group: int) -> list[psutil.Process]:
    """Descendants of a process and members of its group, which may outlive it."""
    found: set[psutil.Process] = set()
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(group)
        found |= {leader, *leader.children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group:
                found.add(process)
    return list(found)


def _signal_all(group: int, members: Sequence[psutil.Process], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
    for member in members:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if number == signal.SIGKILL:
                member.kill()
            elif os.getpgid(member.pid) != group:
                member.send_signal(number)
