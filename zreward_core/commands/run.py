"""`zreward run`: the whole pipeline of a profile, with its position, times and results."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
from zreward_core.dvc import ancestors, environment, program, read_graph
from zreward_core.registry.pipeline_runs import PIPELINE, pipeline_name
from zreward_core.runtime.tracking import shared_tracker
from zreward_core.runtime.workspace import make_workspace
from zreward_core.schemas import read_json

DEMO = "demo"
"""The profile of params.yaml itself, which runs in the project root."""
RECORDED = Path("docs/runs")
"""Folder of PROFILE.json: results and times of a complete run, committed with the project."""
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
    recorded = recorded_seconds(profile)
    if profile != DEMO:
        os.chdir(make_workspace(profile))
    check_params(stages)
    graph = read_graph()
    run = begin_run({name: sorted(ancestors(graph, name)) for name in graph}, recorded)
    os.environ[PIPELINE] = pipeline_name(profile)
    with MemorySampler() as memory, shared_tracker():
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


def recorded_seconds(profile: str) -> dict[str, float]:
    """Seconds of each stage in the committed run of a profile; empty if there is none."""
    path = RECORDED / f"{profile}.json"
    if not path.is_file():
        return {}
    return {name: 60 * stage["minutes"] for name, stage in read_json(path)["stages"].items()}


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
