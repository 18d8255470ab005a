"""The SQLite file of the project's MLflow store: creation, checks, locations, and the lock.

MLflow alone creates its tables one by one, retries an unreadable file for minutes, and stores
absolute artifact locations.
"""

import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zreward_core.config import UserError
from zreward_core.locks import acquire

logger = logging.getLogger(__name__)
DATABASE = Path(".zreward/mlflow.db")
ARTIFACTS = Path(".zreward/mlartifacts")
LOCK = Path(".zreward/mlflow.lock")
"""Held while the store is created and while a version is registered, judged or promoted."""
EXPERIMENT = "zreward"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages then show the experiment as training of models, without asking."""
BUSY_TIMEOUT = 10.0
"""Seconds that another process may hold the database."""
CREATION_TIMEOUT = 30.0
"""Seconds without a write after which an incomplete database is no longer being created."""
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's tables with artifact locations."""


@contextmanager
def locked() -> Iterator[None]:
    """Hold the project's lock of the store; re-entrant, released by the kernel if we are killed."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    path = LOCK.resolve()
    lock = FileLock(path, is_singleton=True)
    try:
        acquire(lock, timeout=0)
    except Timeout:
        logger.warning("waiting for %s, which uses the registry", path.read_text() or "a process")
        acquire(lock)
    try:
        if lock.lock_counter == 1:
            path.write_text(f"pid {os.getpid()}")
        yield
    finally:
        lock.release()


@contextmanager
def store_errors() -> Iterator[None]:
    """Within the block errors of the store's database or server are raised as UserError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        cause = cause or error.__context__
        if isinstance(cause, SQLAlchemyError | OSError):
            reason = getattr(cause, "orig", None) or cause
        else:  # what the store refers to is missing, or a server refuses
            reason = error
        raise UserError(
            f"the MLflow store failed: {reason}. Nothing was promoted; run `zreward doctor`"
        ) from None


def database_of(uri: str) -> Path | None:
    """The file of a ``sqlite:///`` URI; None for other stores."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name).resolve() if name else None


def is_own(path: Path) -> bool:
    """Whether a database is the one in the project root."""
    return path == DATABASE.resolve()


def create_database(path: Path) -> None:
    """Create MLflow's tables in a scratch file, so that a database in place is complete."""
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as scratch:
        partial = Path(scratch) / path.name
        client = MlflowClient(f"sqlite:///{partial}")
        client.search_experiments()
        location = ARTIFACTS.resolve().as_uri()
        client.create_experiment(EXPERIMENT, location, tags=EXPERIMENT_TAGS)
        if is_own(path):
            make_relative(partial, location)
        if not path.exists():  # else an MLflow server created it meanwhile
            os.replace(partial, path)


def check_database(path: Path, write: bool) -> str | None:
    """Check that a database can be used, before MLflow retries for minutes.

    Returns:
        The absolute location of the project's artifacts, or None if it is relative.

    Raises:
        UserError: locked, not a database, incomplete, or not writable.
    """
    mode = "rw" if write else "ro"
    uri = f"{path.as_uri()}?mode={mode}"
    while True:
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT)) as database:
                rows = dict(database.execute("SELECT name, artifact_location FROM experiments"))
                if write:
                    database.execute("BEGIN IMMEDIATE")
                    database.rollback()
            if rows:
                break
            problem = "it has no experiments"
        except sqlite3.Error as error:
            problem = str(error)
            if "no such table" not in problem:
                raise UserError(f"{path} cannot be used: {problem}. {_remedy(problem)}") from None
        if time.time() - path.stat().st_mtime > CREATION_TIMEOUT:
            raise UserError(
                f"{path} is incomplete ({problem}): the process that created it was killed. Remove"
                " the file and run `zreward promote` again"
            )
        time.sleep(0.5)
    head, mark, _ = str(rows.get(EXPERIMENT, "")).partition(f"/{ARTIFACTS}")
    return head + mark if mark else None


def _remedy(problem: str) -> str:
    if "locked" in problem:
        return f"Another process has held it for {BUSY_TIMEOUT:g} s: wait for it, or end it"
    if "readonly" in problem:
        return "Make the file and its folder writable"
    return (
        "Restore it from a copy, or move it away and run `zreward promote`, which registers the"
        " student again"
    )


def make_relative(path: Path, old: str) -> None:
    """Store the artifact locations relative to the root; MLflow makes those it is given absolute.

    Args:
        path: the database.
        old: the absolute location of ``ARTIFACTS`` in it.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT)) as database, database:
        for table, column in LOCATIONS:
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (str(ARTIFACTS), len(old) + 1, old, len(old) + 1, f"{old}/"),
            )
