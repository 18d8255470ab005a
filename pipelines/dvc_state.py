"""`dvc status`, and the data versions that Dagster shows for what dvc.lock contains."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from zreward_core.dvc import (
    DVC_LOCK,
    QUEUE,
    Graph,
    environment,
    holders,
    is_locked,
    own_inputs,
    program,
)

Changes = dict[str, list[str]]
"""Stages that `dvc status` reports as changed, each with the reasons."""


class DvcError(RuntimeError):
    """A DVC command failed; the message is DVC's own."""


class DvcBusyError(DvcError):
    """DVC could not read the state because a stage is running."""


def outs_version(entry: dict[str, Any]) -> str:
    """Data version of a stage: the md5s of its outs in dvc.lock, in their order there."""
    return ",".join(str(out.get("md5", "none")) for out in entry.get("outs", []))


def inputs_version(graph: Graph, name: str, entry: dict[str, Any]) -> str:
    """Hash of the command, params and own files of a stage's last run, from its lock entry."""
    mine = set(own_inputs(graph, name))
    deps = [(dep["path"], dep.get("md5")) for dep in entry.get("deps", []) if dep["path"] in mine]
    content = [entry.get("cmd"), sorted(deps), entry.get("params")]
    return hashlib.md5(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def read_status(root: Path, stage: str | None = None) -> Changes:
    """Run `dvc status` for a stage and everything upstream of it, or for the whole dvc.yaml.

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


def busy_with(root: Path) -> str:
    """Command that holds the workspace, or ""; files may change until it ends."""
    if found := holders(root):
        return "; ".join(found)
    return "a DVC command" if any(is_locked(root / lock) for lock in (QUEUE, DVC_LOCK)) else ""


def _reasons(entries: list[Any]) -> list[str]:
    """Flatten what DVC lists for a stage to ["changed deps: data/x (modified)", ...]."""
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
