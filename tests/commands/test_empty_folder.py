"""Commands outside a project, and in a project without a champion."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commands.test_score import zreward
from tests.registry.stores import empty_store, place_store
from zreward_core.cli import app
from zreward_core.config import UserError
from zreward_core.mlflow_database import DATABASE

__all__ = ["empty_store"]  # fixture
OF_A_PROJECT = (
    *("doctor", "workspace demo", "plan", "plan --profile demo", "run", "ui", "repro", "promote"),
    *("sync", "adopt", "rollback", "lineage", "claims", "summary", "rubric", "audit", "viewer"),
    *("evaluate", "predict", "annotate", "annotate export", "gsb export", "gsb import x.json"),
)


@pytest.mark.parametrize("command", OF_A_PROJECT)
def test_a_folder_that_is_not_a_project_is_named_and_left_empty(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = CliRunner().invoke(app, command.split())
    assert isinstance(found.exception, UserError)
    message = str(found.exception)
    assert message.startswith(f"{tmp_path} is not a project: it has no dvc.yaml and no params.yaml")
    assert "`zreward init DIR`" in message and "`zreward --root DIR ...`" in message
    assert not list(tmp_path.iterdir())


def test_outside_of_a_project_the_exit_code_is_2_and_help_is_printed(tmp_path: Path) -> None:
    done = zreward("doctor", cwd=tmp_path)
    assert done.returncode == 2 and "is not a project" in done.stderr and not done.stdout
    done = zreward("doctor", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage" in done.stdout


@pytest.mark.parametrize("missing", ["dvc.yaml", "params.yaml"])
def test_doctor_names_a_missing_file_of_a_project(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: a, params: [seed]}}\n")
    (tmp_path / missing).unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = CliRunner().invoke(app, ["doctor"])
    assert found.exit_code == 1
    assert f"yaml: {missing} not found" in found.output and "zreward init ." in found.output


def test_adopt_without_a_champion_is_refused(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_store(empty_store, tmp_path)
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert DATABASE.is_file()
    found = CliRunner().invoke(app, ["adopt"])
    assert isinstance(found.exception, UserError)
    assert "no version of the student is champion" in str(found.exception)
    answer = CliRunner().invoke(app, ["adopt", "--json"])  # as Dagster's sensor runs it
    assert json.loads(answer.output) == {"changed": False, "version": None, "source": None}
