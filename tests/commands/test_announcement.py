"""Commands that are silent at first are named on stderr."""

import time

import pytest
import typer
from typer.testing import CliRunner

from zreward_core.commands import announcement
from zreward_core.commands.announcement import announce_if_slow
from zreward_core.runtime.worker import RUN_STARTED, WORKER


def stderr_of(*arguments: str) -> str:
    app = typer.Typer()

    @app.callback()
    def start(context: typer.Context) -> None:
        announce_if_slow(context, ["ingest"])

    @app.command(help="Stage: files -> ratings.")
    def ingest() -> None:
        time.sleep(0.3)

    @app.command(help="Count. And more.")
    def count() -> None:
        time.sleep(0.3)

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and result.stdout == ""
    return result.stderr


def test_a_slow_command_is_named_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcement, "SILENT_SECONDS", 0.01)
    assert stderr_of("ingest") == ""  # the runner's stderr is not a terminal
    monkeypatch.setattr(announcement, "on_terminal", lambda: True)
    assert stderr_of("ingest") == "ingest: files -> ratings.\n"
    assert stderr_of("count") == "count: Count.\n"
    monkeypatch.setenv(RUN_STARTED, "1.5")  # a stage prints its position in the run
    assert stderr_of("ingest") == "" and stderr_of("count") != ""
    monkeypatch.setenv(WORKER, "1")
    assert stderr_of("count") == ""


def test_a_quick_command_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcement, "SILENT_SECONDS", 60.0)
    monkeypatch.setattr(announcement, "on_terminal", lambda: True)
    assert stderr_of("count") == ""
