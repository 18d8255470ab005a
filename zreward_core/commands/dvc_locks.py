"""Who holds a DVC workspace: read from DVC's lock files, and mended where a killed DVC tore them.

DVC guards a workspace with `.dvc/tmp/lock`, which it lets go while a stage's command runs, and
with the paths listed in `.dvc/tmp/rwlock`, which it holds until the stage is done.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import yaml

TEMPORARY = Path(".dvc/tmp")
LOCK = TEMPORARY / "lock"
RWLOCK = TEMPORARY / "rwlock"
GUARD = TEMPORARY / "rwlock.lock"


def holders() -> list[str]:
    """What runs in this workspace under DVC, in words."""
    found = {}
    for path, info in _entries(_read_rwlock() or {}, "write"):
        if _is_alive(info):
            found[info["pid"]] = f"stage {_stage_of(path)}, run by {_name(info)}"
    if not found and _is_locked(LOCK):
        return ["a DVC command (it holds .dvc/tmp/lock)"]
    return sorted(found.values())


def has_stage(pid: int) -> bool:
    """Whether a process has taken a stage."""
    return any(info["pid"] == pid for _, info in _entries(_read_rwlock() or {}, "write"))


def mend_rwlock(say: Callable[[str], None]) -> None:
    """Take out entries of processes that are gone, or the whole file where it is torn.

    DVC itself looks at the process number alone, so a number given out again would block it for
    ever, and it refuses a torn file.
    """
    if not RWLOCK.exists() or _is_locked(GUARD):
        return
    content = _read_rwlock()
    if content is None:
        RWLOCK.unlink()
        say(f"{RWLOCK} was torn by a DVC that was killed; removed it")
        return
    gone = {info["pid"]: info for mode in ("read", "write") for _, info in _entries(content, mode)
            if not _is_alive(info)}  # fmt: skip
    if gone:
        kept_read = {
            path: [info for info in infos if info["pid"] not in gone]
            for path, infos in content.get("read", {}).items()
        }
        kept_write = {
            path: info for path, info in content.get("write", {}).items() if info["pid"] not in gone
        }
        read = {path: infos for path, infos in kept_read.items() if infos}
        RWLOCK.write_text(json.dumps({"read": read, "write": kept_write}))
        names = ", ".join(_name(info) for info in gone.values())
        say(f"released the DVC locks of a process that is gone: {names}")


def _read_rwlock() -> dict | None:
    """The content of the file, {} where there is none, None where it is torn."""
    try:
        content = json.loads(RWLOCK.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _entries(content: dict, mode: str) -> Iterator[tuple[str, dict]]:
    for path, infos in content.get(mode, {}).items():
        for info in infos if isinstance(infos, list) else [infos]:
            yield path, info


def _is_alive(info: dict) -> bool:
    """Whether the process still runs and is the one that took the lock."""
    arguments = " ".join(str(info["cmd"]).split()[1:])
    try:
        return " ".join(psutil.Process(info["pid"]).cmdline()).endswith(arguments)
    except psutil.Error:
        return False


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _stage_of(path: str) -> str:
    """The stage that writes a path, by the outs in dvc.yaml."""
    graph = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8")) or {}
    for name, stage in graph.get("stages", {}).items():
        for out in stage.get("outs", []):
            out = next(iter(out)) if isinstance(out, dict) else out
            if (Path.cwd() / out).resolve() == Path(path).resolve():
                return name
    return f"that writes {path}"


def _name(info: dict) -> str:
    words = str(info["cmd"]).split()
    return f"`{' '.join([Path(words[0]).name, *words[1:]])}` (pid {info['pid']})"
