"""`dvc repro` as every way in starts it: one at a time, and as a process group that ends whole.

DVC fails where another `dvc repro` holds the workspace, passes no signal on to what it started,
and a killed one can leave its lock files torn. Here what we start waits for its turn and says for
what, ends its whole tree, and mends what a killed run left behind.
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
import yaml

from zreward_core.commands.dvc_locks import has_stage, holders, mend_rwlock
from zreward_core.config import UserError

QUEUE = Path(".zreward/repro.lock")
STAGE_LOCKS = Path(".zreward/stage_locks")
LOCK_FILE = Path("dvc.lock")
KEPT_LOCK_FILE = Path(".zreward/dvc.lock.kept")
GRACE = 5.0
"""Seconds between asking a process group to end and killing it."""
POLL = 0.1
FOLLOW_PARENT = "ZREWARD_FOLLOW_PARENT"
"""Set by a parent whose death must end the run (a Dagster step)."""

Say = Callable[[str], None]


def repro(arguments: Sequence[str], say: Say) -> int:
    """Run `dvc repro` with these arguments in the current folder when its turn has come.

    Args:
        arguments: targets and options, passed on to DVC.
        say: takes what there is to tell: what is waited for, what was mended.

    Returns:
        DVC's exit code, or 128 plus the number of the signal that ended it.

    Raises:
        UserError: the folder is no DVC workspace, or dvc.lock is torn with no copy to go back to.
    """
    if not Path(".dvc").is_dir():
        raise UserError(f"{Path.cwd()} is no DVC workspace: run in the project's root or give one")
    with _Signals() as signals, _turn(say, signals) as queue:
        for last_try in (False, True):
            _wait_for_dvc(say, signals)
            _mend(say)
            code, began = _run_group(["repro", *arguments], queue, signals)
            # A bare dvc that started in the same second made ours fail before any stage began.
            if last_try or began or code <= 0 or signals.received or not holders():
                break
    _keep_lock_file()
    return 128 - code if code < 0 else code


def dvc_command() -> list[str]:
    """The DVC that belongs to the running Python, whether its environment is activated or not."""
    return [str(Path(sys.executable).with_name("dvc")), "--wait-for-lock"]


def environment() -> dict[str, str]:
    """The environment with the running Python's folder first on PATH."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {**os.environ, "PATH": os.pathsep.join(path for path in paths if path)}


@contextmanager
def stage_lock(name: str) -> Iterator[None]:
    """Hold the only place of a stage: one that outlived its DVC is waited for, not run beside."""
    STAGE_LOCKS.mkdir(parents=True, exist_ok=True)
    with (STAGE_LOCKS / name).open("a+") as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            sys.stderr.write(f"waiting for {file.read() or 'a process'}, which still runs {name}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"pid {os.getpid()}")
        file.flush()
        yield


class _Signals:
    """Remembers SIGINT and SIGTERM instead of dying of them, while it is entered."""

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
        """The signal that asks for an end, or 0; a followed parent's death is one."""
        if self._parent is not None and os.getppid() != self._parent:
            self.received = self.received or signal.SIGTERM
        return self.received

    def raise_if_received(self) -> None:
        """End the program where it only waits."""
        if self.check():
            sys.exit(128 + self.received)


@contextmanager
def _turn(say: Say, signals: _Signals) -> Iterator[int]:
    """Queue up with everything started by us; the lock ends with its last holder, however."""
    QUEUE.parent.mkdir(parents=True, exist_ok=True)
    with QUEUE.open("a+") as file:
        spoken = ""
        while not _try_lock(file.fileno()):
            signals.raise_if_received()
            file.seek(0)
            doing = "; ".join(holders()) or file.read().strip() or "another run"
            if doing != spoken:
                say(f"waiting for {doing}")
                spoken = doing
            time.sleep(POLL)
        file.seek(0)
        file.truncate()
        file.write(f"zreward repro (pid {os.getpid()})")
        file.flush()
        yield file.fileno()


def _wait_for_dvc(say: Say, signals: _Signals) -> None:
    spoken: list[str] = []
    while busy := holders():
        signals.raise_if_received()
        if busy != spoken:
            say("waiting for " + "; ".join(busy))
            spoken = busy
        time.sleep(5 * POLL)


def _mend(say: Say) -> None:
    """Put right what a run that was killed while it wrote can leave behind."""
    mend_rwlock(say)
    if not LOCK_FILE.exists() or _is_whole(LOCK_FILE):
        _keep_lock_file()
        return
    if not KEPT_LOCK_FILE.is_file():
        raise UserError(f"{LOCK_FILE} is torn: bring it back with `git checkout {LOCK_FILE}`")
    shutil.copyfile(KEPT_LOCK_FILE, LOCK_FILE)
    say(f"{LOCK_FILE} was torn by a run that was killed; its last whole copy is back")


def _keep_lock_file() -> None:
    if LOCK_FILE.exists() and _is_whole(LOCK_FILE):
        partial = KEPT_LOCK_FILE.with_suffix(".partial")
        shutil.copyfile(LOCK_FILE, partial)
        os.replace(partial, KEPT_LOCK_FILE)


def _is_whole(path: Path) -> bool:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and isinstance(content.get("stages"), dict)


def _run_group(arguments: Sequence[str], queue: int, signals: _Signals) -> tuple[int, bool]:
    """Run DVC as a group of its own that keeps the queue's lock.

    Returns:
        Its exit code, and whether it got as far as taking a stage.
    """
    process = subprocess.Popen(
        [*dvc_command(), *arguments], env=environment(), process_group=0, pass_fds=[queue]
    )
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
    """Send a signal to a process group and all its descendants, and kill what is left of them."""
    members = _tree(process.pid)
    _signal_all(process.pid, members, number)
    _, alive = psutil.wait_procs(members, timeout=GRACE)
    _signal_all(process.pid, list({*alive, *_tree(process.pid)}), signal.SIGKILL)


def _tree(group: int) -> list[psutil.Process]:
    """Descendants of a process and members of its group; these also after its death."""
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


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
