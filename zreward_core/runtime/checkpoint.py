"""Checkpoints of a stage, stored outside its outputs (DVC deletes those before a stage starts).

A checkpoint is keyed by the stage's params, its inputs and its code; a change of any of
these starts a new run. Every training step seeds its randomness with (seed, step), so weights,
optimizer and step number are the complete state. The main process writes, all processes read from
a shared file system.

A checkpoint is on disk before it replaces the one before, which is kept beside it: a crash or a
power failure costs at most the steps since then.
"""

import ast
import hashlib
import logging
import os
import pickle
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel

from zreward_core.config import UserError
from zreward_core.locks import acquire
from zreward_core.runtime.distributed import from_main
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import NotFinite, flush, leaves, tree_hash, write_table

__all__ = ["Checkpoint", "code_hash", "tree_hash"]
logger = logging.getLogger(__name__)
CHECKPOINTS = Path(".zreward/checkpoints")
PACKAGE = Path(__file__).parents[1]
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    EOFError,
    FileNotFoundError,  # another process has set it aside
    RuntimeError,
    ValueError,
)
"""Errors of reading an archive whose headers or content are damaged."""


class Checkpoint:
    """The resumable state of one stage."""

    def __init__(self, stage: str, config: BaseModel, inputs: Iterable[Path]) -> None:
        key = ""
        if is_main():
            key = state_key(stage, config, inputs)
            with suppress(OSError):  # `save` reports it
                (CHECKPOINTS / stage / key).mkdir(parents=True, exist_ok=True)
        self.stage = stage
        self.folder = CHECKPOINTS / stage / from_main(key)

    def save(self, name: str, state: dict[str, Any], by_any: bool = False) -> None:
        """Save state (tensors, numbers, strings, containers of these) under a name.

        Args:
            by_any: every calling process writes, under its own name; else only the main one.

        Raises:
            NotFinite: a number of the state is NaN or infinite; the checkpoint before is kept.
            UserError: the file cannot be written; the checkpoint before is kept.
        """
        if not (by_any or is_main()):
            return
        self._require_finite(name, state)
        partial, path = self.folder / f"{name}.partial", self.folder / f"{name}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(state, partial)
            flush(partial)
            with suppress(FileNotFoundError):
                os.replace(path, _previous(path))
            os.replace(partial, path)
            flush(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            raise self._not_written(path, error) from None

    def save_table(self, name: str, rows: pd.DataFrame, schema: pa.Schema) -> None:
        """Save a table under a name, from any process.

        Raises:
            NotFinite: a number of the table is infinite, or one of a list is not finite.
            UserError: the file cannot be written.
        """
        partial, path = self.folder / f"{uuid.uuid4().hex}.partial", self.table_path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_table(rows, partial, schema)
            flush(partial)
            os.replace(partial, path)
            flush(self.folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise self._not_written(path, error) from None

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process holds the lock of a table during the block.

        Raises:
            UserError: the lock file cannot be written, or its file system has no locks.
        """
        path = self.table_path(name)
        lock = FileLock(f"{path}.lock")
        try:
            acquire(lock, timeout=0)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise self._not_written(path, error) from None
        try:
            yield True
        finally:
            lock.release()

    def table_path(self, name: str) -> Path:
        """File of a table."""
        return self.folder / f"{name}.parquet"

    def tables(self) -> set[str]:
        """Names of the tables that there are, whole or not."""
        return {path.stem for path in self.folder.glob("*.parquet")}

    def has_table(self, name: str) -> bool:
        """Whether there is a table of this name; a file that is not whole is renamed."""
        path = self.table_path(name)
        try:
            pq.read_metadata(path)
        except FileNotFoundError:
            return False
        except (OSError, pa.ArrowException):
            self._set_aside(path)
            return False
        return True

    def load(self, name: str) -> dict[str, Any] | None:
        """Load the state saved under a name, or None.

        A file that is not whole is renamed and reported, and the one before it is loaded.
        """
        path = self.folder / f"{name}.pt"
        for found in (path, _previous(path)):
            if not found.is_file():
                continue
            if (state := read_state(found)) is not None:
                return state
            self._set_aside(found)
        return None

    def clear(self) -> None:
        """Remove the stage's checkpoints, those of other keys included: the output is complete."""
        if is_main():
            cleared = self.folder.parent.with_suffix(f".{uuid.uuid4().hex}.cleared")
            with suppress(FileNotFoundError):
                self.folder.parent.rename(cleared)  # at once: other workers look for shards in it
            for left in cleared.parent.glob(f"{self.stage}.*.cleared"):
                shutil.rmtree(left, ignore_errors=True)

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}.torn")
        with suppress(FileNotFoundError):  # another process renamed it
            os.replace(path, aside)
        logger.warning(
            "%s is damaged and was renamed to %s: %s starts from the checkpoint before it, or"
            " from the beginning if there is none",
            path,
            aside.name,
            self.stage,
        )

    def _not_written(self, path: Path, error: Exception) -> UserError:
        return UserError(
            f"{path} cannot be written ({error}); earlier checkpoints were kept: free some"
            f" space or correct its permissions, then run `zreward {self.stage}` again"
        )

    def _require_finite(self, name: str, state: dict[str, Any]) -> None:
        for part, value in leaves(state):
            numbers = torch.as_tensor(value) if isinstance(value, float) else value
            if isinstance(numbers, torch.Tensor) and not bool(torch.isfinite(numbers).all()):
                step = f", step {state['step']}" if "step" in state else ""
                raise NotFinite(
                    f"{self.stage}{step}: '{part}' of the checkpoint '{name}' is not finite"
                    f" ({first_not_finite(numbers)}), so it was not saved; lower the learning rate"
                    " of this stage in params.yaml, or train the model that it uses again"
                )


def first_not_finite(values: torch.Tensor) -> float:
    """The first number of a tensor that is NaN or infinite."""
    return float(values[~torch.isfinite(values)][0])


def require_shapes(saved: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> None:
    """Check that tensors of a checkpoint have the shapes of those that they are restored to.

    torch broadcasts weights, and takes an optimizer's state as it is.

    Raises:
        UserError: they have not, or their number differs.
    """
    shapes = [[list(value.shape) for value in values] for values in (saved, expected)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"a checkpoint in {CHECKPOINTS} does not fit the model: its tensors have the shapes"
            f" {shapes[0][:3]}..., not {shapes[1][:3]}...; delete the folder of the stage there to"
            " start again"
        )


def read_state(path: Path) -> dict[str, Any] | None:
    """Content of a file written by ``torch.save`` (a zip archive with checksums), or None if it is
    damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, weights_only=True, map_location="cpu")
    except DAMAGED as error:
        if "memory" in str(error):  # torch has no error of its own for this
            raise
        return None


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def state_key(stage: str, config: BaseModel, inputs: Iterable[Path]) -> str:
    """Key of a checkpoint: 16 hex digits of a hash over params, inputs and code."""
    key = hashlib.sha256(config.model_dump_json().encode())
    for path in inputs:
        key.update(tree_hash(path).encode())
    key.update(code_hash(stage).encode())
    return key.hexdigest()[:16]


def code_hash(stage: str) -> str:
    """sha256 of the source of a stage or command, and of all modules of this package it imports.

    It does not depend on what else was imported before: on the command line, for example, the check
    of params.yaml imports all stages, but only if the params have changed.
    """
    places = (f"zreward_core.{place}.{stage}" for place in ("stages", "commands"))
    left, found = [*places, __name__], {}
    while left:
        name = left.pop()
        if name not in found and (path := _source(name)) is not None:
            found[name] = path.read_bytes()
            left += _imported(found[name])
    total = hashlib.sha256()
    for name, content in sorted(found.items()):
        total.update(name.encode() + content)
    return total.hexdigest()


def _source(name: str) -> Path | None:
    """Source file of a module of this package; None if it is not one."""
    top, *parts = name.split(".")
    path = PACKAGE.joinpath(*parts)
    files = [path.with_suffix(".py"), path / "__init__.py"] if top == PACKAGE.name else []
    return next((file for file in files if file.is_file()), None)


def _imported(content: bytes) -> Iterator[str]:
    """Modules that a source file imports, within functions too, and names that may be modules."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
