"""Progress in a log file, and beside the position in a whole run."""

from pathlib import Path

import pytest
from PIL import Image
from tqdm import tqdm

from zreward_core.runtime import progress
from zreward_core.runtime.progress import Progress, track

Capture = pytest.CaptureFixture[str]


class Clock:
    """A clock that advances by a second at each reading."""

    now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_log_gets_a_line_every_half_minute(capsys: Capture, monkeypatch) -> None:
    monkeypatch.setattr("tqdm.std.time", Clock())
    bar = track(range(200), "steps")
    bar._time = clock = Clock()
    bar.start_t = bar.last_print_t = clock.now
    for _ in bar:
        pass
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert 3 <= len(lines) <= 1 + (clock.now - bar.start_t) / progress.LINE_EVERY
    assert all(line.startswith("steps:") for line in lines)
    assert "\r" not in written and "200/200" in lines[-1]


def test_a_short_bar_writes_nothing_to_a_log(capsys: Capture) -> None:
    assert list(track(range(5), "steps")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_interrupted_work_says_where_it_continues(capsys: Capture) -> None:
    for initial in (0, 3, 5):
        list(track(range(initial, 5), "steps", 5, initial))
    assert capsys.readouterr().err == "steps: continues after 3 of 5\n"


def test_the_position_precedes_the_bar(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "position", staticmethod(lambda: "stage 9 of 14: label"))
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    list(track(range(2), "steps"))
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("stage 9 of 14: label | steps: 100% 2/2")
    )


def test_reminders_only_after_silence(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "position", staticmethod(lambda: "stage 9 of 14: label"))
    monkeypatch.setattr(Progress, "shown_at", 0.0)
    progress.remind()
    progress.remind()
    assert capsys.readouterr().err == "stage 9 of 14: label\n"
    assert isinstance(track([], "steps"), tqdm)


def test_metrics_are_printed_first_and_last_and_reach_the_live_file(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Progress, "metrics_at", -1000.0)
    rows = [{"step": step, "loss/total": 2.0 - step} for step in range(3)]
    progress.publish("toy", [], anew=True)
    for row in rows:
        progress.publish("toy", [row])
    progress.say_metrics("toy", rows)
    progress.say_metrics("toy", rows)  # once
    assert capsys.readouterr().err.splitlines() == [
        "toy, step 0: loss/total 2", "toy, step 2: loss/total 0"
    ]  # fmt: skip
    assert len((tmp_path / ".zreward/live/toy.jsonl").read_text().splitlines()) == 3
    progress.publish_sheet("toy", 5, Image.new("RGB", (18, 4)))
    assert Image.open(tmp_path / ".zreward/live/toy/0000005.png").size == (18, 4)
    progress.clear_live("toy")
    assert not list((tmp_path / ".zreward/live").iterdir())
