"""Long commands end with one line and exit code 130 on Ctrl-C."""

import pytest

from zreward_core.runtime.interrupts import OF_DVC, resumable
from zreward_core.runtime.worker import WORKER

LINE = "label interrupted: parts are kept, and the same command continues\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
@pytest.mark.parametrize(("name", "line"), [(None, LINE), (WORKER, ""), (OF_DVC, "")])
def test_the_command_that_was_called_says_how_to_continue(
    error: BaseException,
    name: str | None,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for one in (WORKER, OF_DVC, "RANK"):
        monkeypatch.delenv(one, raising=False)
    if name is not None:
        monkeypatch.setenv(name, "1")
    with pytest.raises(SystemExit) as ended, resumable("label", "parts are kept"):
        raise error
    assert ended.value.code == 130 and capsys.readouterr().err == line


@pytest.mark.parametrize("error", [SystemExit(2), SystemExit(0), ValueError("x")])
def test_other_ends_are_left_as_they_are(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)) as ended, resumable("label", "parts are kept"):
        raise error
    assert ended.value is error and not capsys.readouterr().err
