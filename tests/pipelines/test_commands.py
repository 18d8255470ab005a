import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import commands
from pipelines.commands import end, links_to, run


def test_output_and_exit_code_of_a_command(tmp_path: Path) -> None:
    lines: list[str] = []
    code, output = run(["--root", "nowhere", "label"], tmp_path, {}, lines.append)
    assert code == 2
    assert "not a folder" in output and output.splitlines() == lines


def test_the_last_state_of_a_progress_bar_is_logged() -> None:
    assert commands._last_state("  1%\r 50%\r100% done\r\n") == "100% done"


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SHUTDOWN_TIMEOUT", 0.5)
    ignore = "signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(99)"
    code = f"import signal, time; {ignore}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline()
    end(process)
    assert process.returncode == -9


def test_a_command_gets_the_address_of_its_dagster_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(commands.DAGSTER_UI, "http://127.0.0.1:3000")
    assert links_to("abc")["ZREWARD_DAGSTER_URL"] == "http://127.0.0.1:3000/runs/abc"
    monkeypatch.delenv(commands.DAGSTER_UI)
    assert links_to("abc") == {
        "ZREWARD_DAGSTER_RUN_ID": "abc",
        "ZREWARD_FOLLOW_PARENT": "1",
        "ZREWARD_PIPELINE": "Dagster abc",
    }
