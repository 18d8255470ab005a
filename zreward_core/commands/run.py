"""`zreward run`: the whole pipeline of a profile, with its position, times and results."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from zreward_core.commands.check_params import check_params
from zreward_core.commands.claims import print_summary
from zreward_core.commands.memory import MemorySampler
from zreward_core.commands.repro import repro
from zreward_core.commands.stage_times import (
    RUN,
    Run,
    begin_run,
    duration,
    executed,
    read_time,
    write_record,
)
from zreward_core.dvc import RUN_LOCK, ancestors, environment, program, read_graph, users
from zreward_core.locks import try_lock
from zreward_core.registry.pipeline_runs import PIPELINE, pipeline_name
from zreward_core.runtime.launch_settings import DEMO, launch_file_of, profile_file
from zreward_core.runtime.tracking import shared_tracker
from zreward_core.runtime.workspace import WORKSPACES, InUse, make_workspace
from zreward_core.schemas import read_json

RECORDED = Path("docs/runs")
"""Folder of PROFILE.json: results and times of a complete run, committed with the project."""
POLL = 0.5
"""Seconds between two looks at a workspace in use."""
BLOCKED = 1
"""Exit code of `zreward promote` when the gate blocks: the current champion stays in use."""


def run_pipeline(profile: str, stages: Sequence[str], say: Callable[[str], None]) -> int:
    """Bring every stage up to date, promote, and print times and results.

    Args:
        profile: ``demo``, or a name of params/NAME.yaml, which runs in its own workspace.
        stages: names of the modules in ``zreward_core.stages``, whose params are checked first.
        say: prints a message.

    Returns:
        Exit code of the first command that failed, or 0.

    Raises:
        UserError: no such profile, or the workspace or its params are invalid.
    """
    recorded = recorded_run(profile)
    if profile != DEMO:
        folder = _free_workspace(profile, say)
        # names the profile's files in its messages
        check_params(stages, profile_file(profile), launch_file_of(profile))
        os.chdir(folder)
    check_params(stages)
    graph = read_graph()
    upstream = {name: sorted(ancestors(graph, name)) for name in graph}
    run = begin_run(upstream, recorded_seconds(recorded))
    if basis := basis_of_estimate(profile, run, recorded):
        say(basis)
    os.environ[PIPELINE] = pipeline_name(profile)
    with held(), MemorySampler() as memory, shared_tracker():
        code = _commands(say)
    run.seconds, run.peak_memory = time.time() - run.started, memory.peak
    if code:
        say(f"stopped after {duration(run.seconds)}; the same command continues from here")
        return code
    write_record(run, RUN)
    if not executed(run):
        say(f"everything is up to date, checked in {duration(run.seconds)}")
    Console().print(times_table(run))
    print_summary()
    return 0


def _free_workspace(profile: str, say: Callable[[str], None]) -> Path:
    """Wait until no other run uses the workspace of a profile, then update it."""
    reported: list[str] = []
    while True:
        running = users(WORKSPACES / profile)
        if not running:
            with suppress(InUse):  # a run that began meanwhile
                return make_workspace(profile)
        elif running != reported:
            say("waiting for " + "; ".join(running))
            reported = running
        time.sleep(POLL)


@contextmanager
def held(root: Path = Path(".")) -> Iterator[None]:
    """Hold the lock that keeps the workspace as it is; of several runs, the first has it."""
    path = root / RUN_LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if try_lock(file):
            file.truncate(0)
            file.write(f"zreward run (pid {os.getpid()})")
            file.flush()
        yield


def recorded_run(profile: str) -> dict[str, Any]:
    """The committed run of a profile; empty if there is none."""
    path = RECORDED / f"{profile}.json"
    return read_json(path) if path.is_file() else {}


def recorded_seconds(recorded: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each stage of a committed run."""
    return {name: 60 * stage["minutes"] for name, stage in recorded.get("stages", {}).items()}


def basis_of_estimate(profile: str, run: Run, recorded: Mapping[str, Any]) -> str:
    """What is known of the duration before the first run here; empty once a stage was timed."""
    if any(read_time(name) for name in run.ancestors):
        return ""
    if not recorded:
        return f"no estimate of the time left: {profile} was not run here before"
    return (
        f"the time left is estimated from a recorded run of {profile}:"
        f" {recorded['minutes']:.0f} min on {recorded['cores']} cores"
    )


def times_table(run: Run) -> Table:
    """Minutes and peak memory of each stage and of the run, for ``rich.print``."""
    table = Table(
        title="Minutes and peak memory",
        caption="memory: resident, summed over processes; earlier run: stage was up to date",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for column in ("minutes", "peak memory"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    ran = executed(run)
    for name in run.ancestors:
        record = read_time(name)
        if record is None:
            table.add_row(name, "–", "–", "not timed")
            continue
        note = "" if name in ran else "earlier run"
        if name in ran and record.earlier:
            note = f"{record.earlier / 60:.1f} before an interruption"
        table.add_row(name, *_numbers(record.seconds, record.peak_memory), note)
    seconds = run.seconds or 0.0
    here = sum(record.seconds - record.earlier for record in ran.values())
    table.add_section()
    table.add_row("DVC, promotion, tracking", f"{(seconds - here) / 60:.1f}", "")
    table.add_row("this run", *_numbers(seconds, run.peak_memory), style="bold")
    return table


def _commands(say: Callable[[str], None]) -> int:
    if code := repro(["evaluate"], say):
        return code
    # a process of its own: it imports torch, whose memory would stay in use
    promoted = subprocess.run([program("zreward"), "promote"], env=environment())
    if promoted.returncode not in (0, BLOCKED):
        return promoted.returncode
    if code := repro(["dvc.yaml"], say):
        return code
    return subprocess.run([program("zreward"), "sync"], env=environment()).returncode


def _numbers(seconds: float, memory: int) -> tuple[str, str]:
    return f"{seconds / 60:.1f}", f"{memory / 1e9:.1f} GB"
