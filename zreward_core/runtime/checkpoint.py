"""Checkpoints of a stage, stored outside its outputs (DVC deletes those before a stage starts).

A checkpoint is keyed by the stage's params, its inputs and the loaded code; a change of any of
these starts a new run. Every training step seeds its randomness with (seed, step), so weights,
optimizer and step number are the complete state. The main process writes, all processes read from
a shared file system.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from zreward_core.runtime.distributed import from_main
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import tree_hash

__all__ = ["Checkpoint", "loaded_code_hash", "tree_hash"]
CHECKPOINTS = Path(".zreward/checkpoints")


class Checkpoint:
    """The resumable state of one stage."""

    def __init__(self, stage: str, config: BaseModel, inputs: Iterable[Path]) -> None:
        key = from_main(state_key(config, inputs) if is_main() else "")
        self.folder = CHECKPOINTS / stage / key

    def save(self, name: str, state: dict[str, Any], by_any: bool = False) -> None:
        """Save state (tensors, numbers, strings, containers of these) under a name.

        Args:
            by_any: every calling process writes, under its own name; else only the main one.
        """
        if not (by_any or is_main()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{name}.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / f"{name}.pt")

    def load(self, name: str) -> dict[str, Any] | None:
        """Load the state saved under a name, or None."""
        path = self.folder / f"{name}.pt"
        if not path.is_file():
            return None
        return torch.load(path, weights_only=True, map_location="cpu")

    def clear(self) -> None:
        """Remove the stage's checkpoints, those of other keys included: the output is complete."""
        if is_main():
            shutil.rmtree(self.folder.parent, ignore_errors=True)


def state_key(config: BaseModel, inputs: Iterable[Path]) -> str:
    """Key of a checkpoint: 16 hex digits of a hash over params, inputs and loaded code."""
    key = hashlib.sha256(config.model_dump_json().encode())
    for path in inputs:
        key.update(tree_hash(path).encode())
    key.update(loaded_code_hash().encode())
    return key.hexdigest()[:16]


def loaded_code_hash() -> str:
    """sha256 of the source of all loaded modules of this package."""
    total = hashlib.sha256()
    for name in sorted(sys.modules):
        if name.split(".")[0] == "zreward_core":
            source = getattr(sys.modules[name], "__file__", None)
            if source:
                total.update(name.encode() + Path(source).read_bytes())
    return total.hexdigest()
