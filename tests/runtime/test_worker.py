"""Environment variables between launcher and workers."""

from pathlib import Path

import pytest

from zreward_core.config import Settings
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.worker import ERROR_FILE, WORKER, is_main, report_user_error


def test_a_message_is_passed_to_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "launch/stage.error"
    monkeypatch.setenv(ERROR_FILE, str(file))
    assert not report_user_error("no launcher is waiting")
    monkeypatch.setenv(WORKER, "1")
    assert report_user_error("a file is missing")
    assert file.read_text() == "a file is missing"
    assert [path.name for path in file.parent.iterdir()] == ["stage.error"]


def test_only_the_main_process_writes_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_main()
    monkeypatch.setenv("RANK", "1")
    assert not is_main()
    with pytest.raises(AssertionError, match="main process"), whole_output(tmp_path, Settings()):
        pass
