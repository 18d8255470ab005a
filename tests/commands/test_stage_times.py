"""Recorded stage times, the position in a run, and its table."""

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from zreward_core.commands.memory import MemorySampler
from zreward_core.commands.run import (
    basis_of_estimate,
    recorded_run,
    recorded_seconds,
    times_table,
)
from zreward_core.commands.stage_times import (
    TIMES,
    Run,
    StageTime,
    begin_run,
    current_run,
    executed,
    position,
    read_time,
    timed,
    write_record,
)
from zreward_core.runtime.progress import Progress
from zreward_core.runtime.worker import RUN_STARTED, WORKER

ANCESTORS = {"world": [], "base": ["world"], "label": ["base", "world"], "last": ["label"]}
RECORDED = {"world": 60.0, "base": 600.0, "label": 300.0, "last": 40.0}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RUN_STARTED, "")
    monkeypatch.setattr(Progress, "position", None)
    (tmp_path / "params.yaml").write_text("seed: 1")
    return tmp_path


def finish(stage: str, started: float, seconds: float) -> None:
    record = StageTime(started=started, ended=started + seconds, seconds=seconds, peak_memory=2**30)
    write_record(record, TIMES / f"{stage}.json")


def test_position_before_anything_was_measured() -> None:
    run = begin_run(ANCESTORS, RECORDED)
    assert position(run, "world", run.started + 5) == (
        "stage 1 of 4: world, 5 s so far, about 17 min left"
    )
    assert position(Run(started=0, ancestors=ANCESTORS), "world", 180) == (
        "stage 1 of 4: world, 3 min so far"
    )


def test_time_left_follows_the_stages_of_this_run() -> None:
    run = begin_run(ANCESTORS, RECORDED)
    now = run.started
    finish("world", now, 60)
    finish("base", now + 60, 600)
    write_record(StageTime(started=now + 660), TIMES / "label.json")
    assert position(run, "label", now + 720).endswith("label, 12 min so far, about 5 min left")
    finish("base", now + 60, 1200)  # nearly twice as long as recorded
    write_record(StageTime(started=now + 1260), TIMES / "label.json")
    assert position(run, "label", now + 1320).endswith("label, 22 min so far, about 9 min left")


def test_a_late_stage_makes_the_rest_longer() -> None:
    run = begin_run(ANCESTORS, RECORDED)
    write_record(StageTime(started=run.started), TIMES / "world.json")
    run.expected["label"] = run.expected["last"] = 0.0
    on_time = position(run, "world", run.started + 60)
    assert on_time.endswith("about 10 min left")
    assert not position(run, "world", run.started + 600).endswith("about 10 min left")


def test_stages_that_are_up_to_date_count_as_done() -> None:
    finish("world", 1000.0, 60)
    finish("base", 1060.0, 600)
    run = begin_run(ANCESTORS, {})
    assert executed(run) == {}
    assert position(run, "label", run.started).startswith("stage 3 of 4: label")


def test_times_of_earlier_runs_precede_committed_ones() -> None:
    finish("base", 1060.0, 100)
    run = begin_run(ANCESTORS, RECORDED)
    assert run.expected == RECORDED | {"base": 100.0}


def test_a_stage_is_recorded_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zreward_core.commands.memory.SAMPLE_EVERY", 0.05)
    code = "import time; held = bytearray(300_000_000); time.sleep(1)"
    with timed("world"):
        child = subprocess.Popen([sys.executable, "-c", code])
        child.wait()
    record = read_time("world")
    assert record is not None and record.ended is not None and record.earlier == 0
    assert 1 <= record.seconds < 60 and record.peak_memory > 3e8


def test_memory_adds_up_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zreward_core.commands.memory.SAMPLE_EVERY", 0.05)
    code = "import time; held = bytearray(300_000_000); time.sleep(3)"
    with MemorySampler() as memory:
        children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
        for child in children:
            child.wait()
    assert memory.peak > 6e8


def test_a_resumed_stage_adds_up_and_a_changed_one_starts_anew(root: Path) -> None:
    with pytest.raises(RuntimeError), timed("world"):
        raise RuntimeError
    interrupted = read_time("world")
    assert interrupted is not None and interrupted.ended is None
    write_record(interrupted.model_copy(update={"seconds": 100.0}), TIMES / "world.json")
    with timed("world"):
        pass
    resumed = read_time("world")
    assert resumed is not None and resumed.earlier == 100 and 100 <= resumed.seconds < 160
    write_record(interrupted.model_copy(update={"seconds": 100.0}), TIMES / "world.json")
    (root / "params.yaml").write_text("seed: 2")
    with timed("world"):
        pass
    anew = read_time("world")
    assert anew is not None and anew.earlier == 0 and anew.seconds < 60


def test_a_worker_shows_the_position_and_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin_run(ANCESTORS, RECORDED)
    write_record(StageTime(started=run.started), TIMES / "base.json")
    before = read_time("base")
    monkeypatch.setenv(WORKER, "1")
    with timed("base"):
        assert Progress.position is not None and "base" in Progress.position()
    assert read_time("base") == before


def test_a_stage_outside_of_the_run_shows_no_position(capsys: pytest.CaptureFixture[str]) -> None:
    begin_run(ANCESTORS, RECORDED)
    os.environ[RUN_STARTED] = "1.5"  # of another run
    assert current_run() is None
    with timed("world"):
        assert Progress.position is None
    assert capsys.readouterr().err == "world: finished in 0 s\n"


def test_the_position_is_printed_before_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    begin_run(ANCESTORS, RECORDED)
    with timed("base"):
        assert "stage 2 of 4: base, 0 s so far, about 1" in capsys.readouterr().err


def test_the_table_marks_what_did_not_run() -> None:
    finish("world", 1000.0, 60)
    run = begin_run(ANCESTORS, {})
    finish("base", time.time() + 1, 600)
    run.seconds, run.peak_memory = 660.0, 3 * 10**9
    console = Console(width=100, record=True, file=StringIO())
    console.print(times_table(run))
    rows = {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}
    assert "10.0" in rows["base"] and "1.1 GB" in rows["base"] and "earlier" not in rows["base"]
    assert "1.0" in rows["world"] and "earlier run" in rows["world"]
    assert "not timed" in rows["label"]
    assert "1.0" in rows["DVC,"] and "11.0" in rows["this"] and "3.0 GB" in rows["this"]


def test_the_basis_of_the_first_estimate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    never = begin_run(ANCESTORS, {})
    assert basis_of_estimate("mine", never, recorded_run("demo")) == (
        "no estimate of the time left: mine was not run here before"
    )
    with monkeypatch.context() as patch:
        patch.chdir(Path(__file__).parents[2])
        demo = recorded_run("demo")
    assert recorded_seconds(demo)["label"] > 60 and TIMES.parts[0] == ".zreward"
    assert f"{demo['minutes']:.0f} min on 2 cores" in basis_of_estimate("demo", never, demo)
    finish("base", 1060.0, 100)
    assert basis_of_estimate("demo", begin_run(ANCESTORS, {}), demo) == ""


def test_the_memory_of_the_process_that_started_this_one_does_not_count() -> None:
    code = (
        "import subprocess, sys; held = bytearray(500_000_000)\n"
        "own = 'from zreward_core.commands.memory import own_peak; print(own_peak())'\n"
        "subprocess.run([sys.executable, '-c', own], check=True)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert 1e6 < int(printed) < 3e8
