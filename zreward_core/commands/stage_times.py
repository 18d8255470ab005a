"""Duration and peak memory of each stage, and the position of a whole run (`zreward run`).

The records lie in .zreward/, outside of all outs, which depend on inputs, params and code alone.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel

from zreward_core.commands.memory import MemorySampler
from zreward_core.config import PARAMS_FILE
from zreward_core.runtime.progress import Progress, remind, say, say_position
from zreward_core.runtime.worker import RUN_STARTED, is_main, owns_run

TIMES = Path(".zreward/times")
RUN = Path(".zreward/run.json")
SAVE_EVERY = 10.0
"""Seconds between two updates of the record of a running stage."""
DAMPING = 0.05
"""The first stages of a run change the estimate as if this share of the total had been on time."""


class StageTime(BaseModel):
    """How long a stage ran, and what it needed."""

    started: float
    """Start of the last attempt, in seconds since the epoch."""
    ended: float | None = None
    """End of the last attempt; None if it failed or was killed, or while it runs."""
    earlier: float = 0.0
    """Seconds of interrupted attempts on the same params, whose checkpoint this one continued."""
    seconds: float = 0.0
    """Seconds of all attempts."""
    peak_memory: int = 0
    """Largest sum of the resident memory of the stage's processes, in bytes."""
    params: str = ""
    """Hash of params.yaml and the overlay."""

    def spent(self, now: float) -> float:
        """Seconds of all attempts until now, while the last one runs."""
        return self.earlier + now - self.started


class Run(BaseModel):
    """One `zreward run`."""

    started: float
    ancestors: dict[str, list[str]]
    """Stage to all stages upstream of it."""
    expected: dict[str, float] = {}
    """Stage to the seconds it took before, here or where the profile's times were recorded."""
    seconds: float | None = None
    """Duration of the whole run; None if it was interrupted, or while it runs."""
    peak_memory: int = 0
    """As of a stage, for all processes of the run."""


@contextmanager
def timed(stage: str, overlay: Path | None = None) -> Iterator[None]:
    """Record the block as the stage's time, and show its position if it is part of a run.

    Args:
        stage: name of the stage.
        overlay: the file that is merged over params.yaml.
    """
    run = current_run()
    if run is not None and stage in run.ancestors and is_main():
        Progress.position = lambda: position(run, stage, time.time())
    if not owns_run():
        yield
        return
    say_position()
    path = TIMES / f"{stage}.json"
    before, begun = read_time(stage), StageTime(started=time.time(), params=_params(overlay))
    if before is not None and before.ended is None and before.params == begun.params:
        carried = {"earlier": before.seconds, "peak_memory": before.peak_memory}
        begun = begun.model_copy(update=carried)
    saved_at = 0.0

    def after_sample() -> None:
        nonlocal saved_at
        remind()
        if time.monotonic() - saved_at > SAVE_EVERY:
            saved_at = time.monotonic()
            write_record(until_now(), path)

    def until_now() -> StageTime:
        peak = max(begun.peak_memory, memory.peak)
        return begun.model_copy(update={"seconds": begun.spent(time.time()), "peak_memory": peak})

    write_record(begun, path)
    memory = MemorySampler(after_sample)
    try:
        with memory:
            yield
    except BaseException:
        write_record(until_now(), path)
        raise
    finished = until_now().model_copy(update={"ended": time.time()})
    write_record(finished, path)
    say(f"{stage}: finished in {duration(finished.seconds - finished.earlier)}")


def read_time(stage: str) -> StageTime | None:
    """The stage's record; None if it never ran here."""
    path = TIMES / f"{stage}.json"
    return StageTime.model_validate_json(path.read_text()) if path.is_file() else None


def current_run() -> Run | None:
    """The run that this process is part of."""
    started = os.environ.get(RUN_STARTED)
    if started is None or not RUN.is_file():
        return None
    run = Run.model_validate_json(RUN.read_text())
    return run if str(run.started) == started else None


def begin_run(ancestors: Mapping[str, list[str]], recorded: Mapping[str, float]) -> Run:
    """Start a run in the current folder.

    Args:
        ancestors: stage to all stages upstream of it, in topological order.
        recorded: seconds of stages, for those that have no record of their own here.
    """
    own = {stage: read_time(stage) for stage in ancestors}
    expected = dict(recorded)
    expected |= {name: time.seconds for name, time in own.items() if time and time.ended}
    run = Run(started=time.time(), ancestors=dict(ancestors), expected=expected)
    write_record(run, RUN)
    os.environ[RUN_STARTED] = str(run.started)
    return run


def executed(run: Run) -> dict[str, StageTime]:
    """Stages that the run has executed, and not found up to date, with their records."""
    found = {stage: read_time(stage) for stage in run.ancestors}
    return {
        stage: record
        for stage, record in found.items()
        if record and record.ended and record.started >= run.started
    }


def position(run: Run, stage: str, now: float) -> str:
    """Where a run is while a stage runs: number of the stage, time so far, time left."""
    done = ({*run.ancestors[stage], *executed(run)} & {*run.ancestors}) - {stage}
    text = f"stage {len(done) + 1} of {len(run.ancestors)}: {stage}"
    text += f", {duration(now - run.started)} so far"
    left = seconds_left(run, stage, done, now)
    return text if left is None else f"{text}, about {duration(left)} left"


def seconds_left(run: Run, stage: str, done: set[str], now: float) -> float | None:
    """Expected duration of the rest, by how much longer the stages so far took than expected.

    Stages without an expected duration are left out; None if no remaining stage has one.
    """
    rest = [run.expected[one] for one in run.ancestors if one in run.expected and one not in done]
    if not rest:
        return None
    record = read_time(stage)
    spent = record.spent(now) if record and record.ended is None else 0.0
    damping = DAMPING * sum(run.expected.values())
    took, expected = damping, damping
    for name, finished in executed(run).items():
        if name in run.expected:
            took, expected = took + finished.seconds, expected + run.expected[name]
    here = run.expected.get(stage, 0.0)
    ratio = took / expected if expected else 1.0
    if spent > here * ratio and here:  # it is late already
        ratio = (took + spent) / (expected + here)
    return max(0.0, here * ratio - spent) + (sum(rest) - here) * ratio


def duration(seconds: float) -> str:
    """A duration in words: seconds below a minute and a half, else minutes."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def write_record(record: BaseModel, path: Path) -> None:
    """Write a record; a process that is killed here leaves the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(record.model_dump_json())
    partial.replace(path)


def _params(overlay: Path | None) -> str:
    files = [path for path in (PARAMS_FILE, overlay) if path is not None and path.is_file()]
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
