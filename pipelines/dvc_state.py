"""What DVC knows: dvc.lock, `dvc status`, and the versions that Dagster shows for them."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipelines.graph import Graph, own_inputs

Lock = dict[str, dict[str, Any]]
Changes = dict[str, list[str]]
"""Stages that `dvc status` calls changed, each with its reasons in words."""


class DvcError(RuntimeError):
    """A DVC command failed; the message is DVC's own."""


class DvcBusyError(DvcError):
    """DVC could not look because something runs."""


def program(name: str) -> str:
    """A command beside the running Python, whether or not its environment is activated."""
    return str(Path(sys.executable).with_name(name))


def environment() -> dict[str, str]:
    """The environment with the running Python's folder first on PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def read_lock(root: Path) -> Lock:
    """Stages of dvc.lock, {} where there is none."""
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}
    return content.get("stages") or {}


def outs_version(entry: dict[str, Any]) -> str:
    """The data version of a stage: the md5 of its outs in dvc.lock, in their order there."""
    return ",".join(str(out.get("md5", "none")) for out in entry.get("outs", []))


def inputs_version(graph: Graph, name: str, entry: dict[str, Any]) -> str:
    """One hash of the command, params and own files that a stage was last run with."""
    mine = set(own_inputs(graph, name))
    deps = [(dep["path"], dep.get("md5")) for dep in entry.get("deps", []) if dep["path"] in mine]
    content = [entry.get("cmd"), sorted(deps), entry.get("params")]
    return hashlib.md5(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def read_status(root: Path, stage: str | None = None) -> Changes:
    """Run `dvc status`: of a stage and all above it, or of the whole dvc.yaml.

    Raises:
        DvcBusyError: a stage is running.
        DvcError: DVC failed.
    """
    target = ["--with-deps", stage] if stage else ["dvc.yaml"]
    done = subprocess.run(
        [program("dvc"), "--wait-for-lock", "status", "--json", *target],
        cwd=root, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        message = done.stderr.strip() or f"dvc status ended with {done.returncode}"
        raise (DvcBusyError if "busy" in message or "lock" in message else DvcError)(message)
    changed = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}
    return {name: _reasons(entries) for name, entries in changed.items()}


def _reasons(entries: list[Any]) -> list[str]:
    """["changed deps: data/x (modified)", ...] of what DVC lists for a stage."""
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
            continue
        for kind, items in entry.items():
            for path, state in items.items():
                if isinstance(state, dict):  # params: file -> key -> state
                    reasons.extend(f"{kind}: {key} ({value})" for key, value in state.items())
                else:
                    reasons.append(f"{kind}: {path} ({state})")
    return reasons


def busy_with(root: Path) -> str:
    """What holds the workspace, in words, or "": till then the state of its files is half told."""
    try:
        held = json.loads((root / ".dvc/tmp/rwlock").read_text()).get("write", {})
    except (FileNotFoundError, ValueError):
        held = {}
    for path, info in held.items():
        if psutil.pid_exists(info["pid"]):
            return f"what writes {os.path.relpath(path, root)} (pid {info['pid']})"
    for lock in (root / ".zreward/repro.lock", root / ".dvc/tmp/lock"):
        if lock.exists() and _is_locked(lock):
            return "a DVC command"
    return ""


def _is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
