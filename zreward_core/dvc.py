"""dvc.yaml, dvc.lock and the locks of a DVC workspace: the only reader of these files.

Reading them needs no DVC import. ``parse_yaml`` is DVC's dialect, so that values compare equal.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from zreward_core.config import PARAMS_FILE, UserError, merged_params, parse_json, read_yaml
from zreward_core.locks import try_lock

GRAPH, LOCK = Path("dvc.yaml"), Path("dvc.lock")
DVC_LOCK, RWLOCK = Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock")
"""DVC holds the first except while a stage's command runs. The second lists the paths of running
stages with the process that runs each."""
QUEUE = Path(".zreward/repro.lock")
"""Held by `zreward repro` from the start of its turn to the end."""
RUN_LOCK = Path(".zreward/run.lock")
"""Held by `zreward run`, which promotes and tracks between its turns in the queue."""
STAGE_LOCKS = Path(".zreward/stage_locks")
"""Folder of a file for each stage, held by the process that runs it; the file names the process."""
UNCHANGED, RESTORED = "unchanged, not run", "restored from DVC's cache, not run"
"""How `zreward repro` lists the stages that it did not run."""
CONFLICT = re.compile(r"(<{7}|={7}|>{7})( |$)")
"""A line that git writes around the two sides of a merge conflict."""

Lock = dict[str, dict[str, Any]]
"""Stage to its entry in dvc.lock."""
Md5s = dict[str, str]
"""Path to md5 as in dvc.lock; that of a folder ends in ``.dir``."""


class Stage(NamedTuple):
    """A stage of dvc.yaml."""

    name: str
    description: str
    group: str
    gpu: bool
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    upstream: tuple[str, ...]
    """Stages whose outs this stage reads."""
    code: str | None
    """The stage's own source file among the deps."""


Graph = dict[str, Stage]


def read_stages(path: Path) -> dict[str, dict[str, Any]]:
    """Stages as a dvc.yaml describes them, by name.

    Raises:
        UserError: no such file, malformed YAML, or a merge conflict.
    """
    refuse_conflict(path)
    stages = read_yaml(path).get("stages") or {}
    if not (isinstance(stages, dict) and all(isinstance(one, dict) for one in stages.values())):
        raise UserError(f"{path}: 'stages' must be a mapping of names to mappings")
    return stages


def refuse_conflict(path: Path) -> None:
    """Reject a file in which git left a merge conflict; the file keeps both sides.

    Raises:
        UserError: names the lines.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    marked = [number for number, line in enumerate(lines, 1) if CONFLICT.match(line)]
    if any(lines[number - 1].startswith(("<", ">")) for number in marked):
        raise UserError(
            f"{path} has a merge conflict (lines {', '.join(map(str, marked))}) and was not"
            f" changed: keep one side with `git checkout --ours {path}` or `--theirs`, or edit the"
            " file, then run `zreward repro`"
        )


def read_graph(root: Path = Path(".")) -> Graph:
    """The graph of a project's dvc.yaml, in topological order.

    Raises:
        UserError: no such file, or malformed YAML.
    """
    described = read_stages(root / GRAPH)
    outs = {name: _paths(stage.get("outs")) for name, stage in described.items()}
    graph = {}
    for name, stage in described.items():
        deps, meta = _paths(stage.get("deps")), stage.get("meta") or {}
        graph[name] = Stage(
            name=name,
            description=stage.get("desc") or f"Stage {name} of dvc.yaml.",
            group=meta.get("group", "stages"),
            gpu=bool(meta.get("gpu", False)),
            deps=deps,
            outs=outs[name],
            params=tuple(str(param) for param in stage.get("params") or ()),
            upstream=tuple(other for other in outs if other != name and _reads(deps, outs[other])),
            code=next((dep for dep in deps if dep.endswith(f"stages/{name}.py")), None),
        )
    return {name: graph[name] for name in _topological(graph)}


def ancestors(graph: Graph, name: str) -> set[str]:
    """Every stage upstream of a stage."""
    found: set[str] = set()
    waiting = list(graph[name].upstream)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting.extend(graph[stage].upstream)
    return found


def closure(graph: Graph, names: Iterable[str]) -> list[str]:
    """Stages and everything downstream of them, in topological order."""
    chosen = set(names)
    return [name for name in graph if name in chosen or chosen & ancestors(graph, name)]


def own_inputs(graph: Graph, name: str) -> list[str]:
    """Deps of a stage that no stage produces: code, and files of the repository."""
    made = [out for stage in graph.values() for out in stage.outs]
    return [dep for dep in graph[name].deps if not _reads([dep], made)]


def overlap(one: str, other: str) -> bool:
    """Whether two paths are equal or one contains the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def read_lock(root: Path = Path(".")) -> Lock:
    """Stages of the dvc.lock in a folder; empty if there is none.

    Raises:
        UserError: malformed YAML, a merge conflict, or not what DVC writes.
    """
    path = root / LOCK
    stages = read_stages(path) if path.is_file() else {}
    for name, entry in stages.items():
        files = all(has_keys(entry.get(kind, []), "path") for kind in ("deps", "outs"))
        params = entry.get("params", {})
        if not files or not isinstance(params, dict) or not all(map(_is_mapping, params.values())):
            raise UserError(
                f"{path}: the stage '{name}' is not as DVC writes it: restore the file with"
                f" `git checkout {path}`, or delete the stage in it, which then runs again"
            )
    return stages


def has_keys(content: Any, *keys: str) -> bool:
    """Whether content is a list of mappings that have texts under the keys."""
    return isinstance(content, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(key), str) for key in keys)
        for one in content
    )


def md5s(entry: Mapping[str, Any], kind: str) -> Md5s:
    """Path to md5 of a lock entry's ``deps`` or ``outs``."""
    return {one["path"]: one.get("md5", "") for one in entry.get(kind, [])}


def locked_params(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Values of params.yaml in a lock entry, by key."""
    return dict(entry.get("params", {}).get(str(PARAMS_FILE), {}))


def current_params(stage: str, overlay: Path | None = None) -> dict[str, Any]:
    """Current values of the params that dvc.yaml tracks for a stage, by key."""
    params = merged_params(overlay)
    keys = read_stages(GRAPH)[stage].get("params", [])
    return {key: params[key] for key in keys if isinstance(key, str) and key in params}


def holders(root: Path = Path(".")) -> list[str]:
    """Running DVC commands that hold a workspace, as text for a message; empty if it is free."""
    found = {}
    for path, info in rwlock_entries(read_rwlock(root) or {}, "write"):
        if is_alive(info):
            found[info["pid"]] = f"stage {_stage_of(root, path)}, run by {process_name(info)}"
    if not found and is_locked(root / DVC_LOCK):
        return [f"a DVC command (it holds {DVC_LOCK})"]
    return sorted(found.values())


def users(root: Path = Path(".")) -> list[str]:
    """Processes that run a workspace's stages or DVC, as text for a message; empty if none do."""
    if found := holders(root):
        return found
    locks = [path for path in sorted((root / STAGE_LOCKS).glob("*")) if is_locked(path)]
    for path in (root / QUEUE, root / RUN_LOCK):
        if not locks and is_locked(path):
            return [path.read_text().strip() or "another run"]
    return [f"stage {path.name} ({path.read_text().strip() or 'a process'})" for path in locks]


def read_rwlock(root: Path = Path(".")) -> dict | None:
    """Content of DVC's rwlock: {} if there is none, None if it is corrupt."""
    try:
        content = parse_json((root / RWLOCK).read_bytes())
        infos = [info for mode in ("read", "write") for _, info in rwlock_entries(content, mode)]
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):  # AttributeError: not a mapping
        return None
    valid = all(isinstance(info, dict) and {"pid", "cmd"} <= set(info) for info in infos)
    return content if valid else None


def rwlock_entries(content: dict, mode: str) -> Iterator[tuple[str, dict]]:
    """(path, {"pid", "cmd"}) of each process that locks a path to ``read`` or to ``write`` it."""
    for path, infos in content.get(mode, {}).items():
        for info in infos if isinstance(infos, list) else [infos]:
            yield path, info


def is_alive(info: dict) -> bool:
    """Whether the process of a lock entry runs; a reused pid has another command line."""
    arguments = " ".join(str(info["cmd"]).split()[1:])
    try:
        return " ".join(psutil.Process(info["pid"]).cmdline()).endswith(arguments)
    except psutil.Error:
        return False


def process_name(info: dict) -> str:
    """Command and pid of a lock entry, for a message."""
    words = str(info["cmd"]).split()
    return f"`{' '.join([Path(words[0]).name, *words[1:]])}` (pid {info['pid']})"


def is_locked(path: Path) -> bool:
    """Whether a process holds the ``flock`` of a file."""
    if not path.exists():
        return False
    with path.open("a") as file:
        return not try_lock(file)


def program(name: str) -> str:
    """Path of a command of the running Python's environment, activated or not.

    Raises:
        ModuleNotFoundError: the environment has no such command.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise ModuleNotFoundError(f"{path} is not found", name=name)
    return str(path)


def environment() -> dict[str, str]:
    """``os.environ`` with the running Python's folder first on PATH."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {**os.environ, "PATH": os.pathsep.join(path for path in paths if path)}


def _stage_of(root: Path, path: str) -> str:
    """The stage that has a path among its outs."""
    for stage in read_graph(root).values():
        if any((root / out).resolve() == Path(path).resolve() for out in stage.outs):
            return stage.name
    return f"that writes {path}"


def _is_mapping(content: Any) -> bool:
    return isinstance(content, dict)


def _paths(entries: list[Any] | None) -> tuple[str, ...]:
    return tuple(next(iter(e)) if isinstance(e, dict) else str(e) for e in entries or ())


def _reads(deps: Iterable[str], outs: Iterable[str]) -> bool:
    outs = list(outs)
    return any(overlap(dep, out) for dep in deps for out in outs)


def _topological(graph: Graph) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(graph):
        ready = [n for n in graph if n not in ordered and set(graph[n].upstream) <= set(ordered)]
        assert ready, f"{GRAPH} contains a cycle"
        ordered.append(ready[0])
    return ordered
