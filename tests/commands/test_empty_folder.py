"""Commands outside a project, and in a project without a champion."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.registry.stores import empty_store, place_store
from zreward_core.cli import app
from zreward_core.config import UserError
from zreward_core.mlflow_database import DATABASE

__all__ = ["empty_store"]  # fixture
READERS = ["adopt", "rollback", "lineage", "evaluate", "predict", "run", "claims", "summary"]


@pytest.mark.parametrize("command", READERS)
def test_a_command_that_fails_in_an_empty_folder_leaves_it_empty(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = CliRunner().invoke(app, [command])
    assert isinstance(found.exception, UserError) and " not found" in str(found.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sync", "doctor"])
def test_a_command_that_finds_nothing_leaves_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = CliRunner().invoke(app, [command])
    assert found.exit_code == 0, found.output
    assert not list(tmp_path.iterdir())


def test_adopt_without_a_champion_is_refused(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_store(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert DATABASE.is_file()
    found = CliRunner().invoke(app, ["adopt"])
    assert isinstance(found.exception, UserError)
    assert "no version of the student is champion" in str(found.exception)
    answer = CliRunner().invoke(app, ["adopt", "--json"])  # as Dagster's sensor runs it
    assert json.loads(answer.output) == {"changed": False, "version": None, "source": None}
