"""The store under harm: concurrent use, copies, damaged and locked databases."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.registry.stores import place_store
from zreward_core.config import UserError
from zreward_core.mlflow_database import ARTIFACTS, DATABASE, EXPERIMENT, LOCATIONS, locked
from zreward_core.registry.versions import registry
from zreward_core.store import connect, experiment_id

OPEN = """
import sys
from zreward_core.registry.versions import registry
from zreward_core.store import experiment_id, MODEL
with registry() as client:
    run = client.create_run(experiment_id(client))
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def locations() -> set[str]:
    """Every location in the project's database, except those of MLflow's own experiment."""
    found = set()
    with closing(sqlite3.connect(DATABASE)) as database:
        for table, column in LOCATIONS:
            found |= {str(one) for (one,) in database.execute(f"SELECT {column} FROM {table}")}
    return {one for one in found if "mlruns" not in one and not one.startswith("models:/")}


def test_two_processes_on_a_fresh_store(root: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", OPEN], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert sum("waiting for pid" in error for error in errors) == 1
    client = connect(create=False)
    assert len(client.search_runs([experiment_id(client)])) == 2
    assert not list(Path(".zreward").glob(".mlflow-*"))
    assert all(one.startswith(str(ARTIFACTS)) for one in locations())


def test_a_killed_creation_leaves_no_store(root: Path) -> None:
    creating = subprocess.Popen([sys.executable, "-c", OPEN], stderr=subprocess.DEVNULL)
    while not list(Path(".zreward").glob(".mlflow-*/mlflow.db")):
        assert creating.poll() is None
        time.sleep(0.01)
    creating.kill()
    creating.wait()
    assert not DATABASE.exists()
    assert connect().get_experiment_by_name(EXPERIMENT) is not None


def test_locations_of_an_older_store_become_relative(root: Path, empty_store: Path) -> None:
    place_store(empty_store, root)
    client = connect()
    run = client.create_run(experiment_id(client)).info.run_id
    old = "file:///somewhere/else/.zreward/mlartifacts"
    with closing(sqlite3.connect(DATABASE)) as database, database:
        for table, column in LOCATIONS:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(ARTIFACTS), old)
            )
    assert all(one.startswith(old) for one in locations())
    assert connect().get_run(run).info.artifact_uri == f"{ARTIFACTS}/{run}/artifacts"
    assert all(one.startswith(str(ARTIFACTS)) for one in locations())


@pytest.mark.parametrize("harm", ["garbage", "empty", "torn", "folder"])
def test_an_unreadable_database_is_reported_at_once(
    root: Path, empty_store: Path, harm: str
) -> None:
    DATABASE.parent.mkdir()
    if harm == "folder":
        DATABASE.mkdir()
    else:
        whole = empty_store.read_bytes()
        content = {"garbage": b"hello" * 1000, "empty": b"", "torn": whole[: len(whole) // 3]}
        DATABASE.write_bytes(content[harm])
        os.utime(DATABASE, (0, 0))
    begun = time.monotonic()
    for create in (True, False):
        with pytest.raises(UserError, match=r"mlflow\.db (cannot be used|is incomplete)"):
            connect(create)
    assert time.monotonic() - begun < 10


def test_a_database_that_another_process_holds_is_reported_in_seconds(
    root: Path, empty_store: Path
) -> None:
    place_store(empty_store, root)
    connect()
    with closing(sqlite3.connect(DATABASE)) as holder:
        for lock, create in (("IMMEDIATE", True), ("EXCLUSIVE", False)):
            holder.execute(f"BEGIN {lock}")
            begun = time.monotonic()
            with pytest.raises(UserError, match="locked"):
                connect(create)
            assert time.monotonic() - begun < 30
            holder.rollback()


def test_an_error_of_the_database_is_a_user_error(root: Path, empty_store: Path) -> None:
    place_store(empty_store, root)
    with pytest.raises(UserError, match="no such table: experiments"), registry() as client:
        with closing(sqlite3.connect(DATABASE)) as database:
            database.execute("DROP TABLE experiments")
        client.search_experiments()


def test_pickles_stay_refused_whatever_the_environment_says(
    root: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_store(empty_store, root)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    connect()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_the_lock_is_reentrant_and_released(root: Path) -> None:
    code = "from zreward_core.mlflow_database import locked\nwith locked(): print('held')"
    with locked(), locked():
        waiting = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert f"waiting for pid {os.getpid()}" in waiting.stderr.readline()
        assert waiting.poll() is None
    assert waiting.wait(60) == 0
    shutil.rmtree(".zreward")
