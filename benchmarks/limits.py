"""Measure latencies against their limits, and kill processes at random: `make limits`.

Run it in a workspace with a finished pipeline (`make run PROFILE=smoke`). --kills is the number of
kills, 0 by default. Each kill is seeded by its number, so a long trial can be split:
`--first 10 --kills 10` runs the second ten.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from pipelines.orphaned_runs import end_orphaned_runs
from pipelines.ui import prepare_home
from zreward_core.commands.repro import DVC
from zreward_core.dvc import LOCK, environment, program, read_graph, read_lock

HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "datasets")
LOAD = f"""
import sys, time
begun = time.perf_counter()
from pathlib import Path
from pipelines.definitions import build_definitions
build_definitions(Path.cwd()).get_repository_def()
print(time.perf_counter() - begun, [name for name in {HEAVY} if name in sys.modules])
"""


VICTIMS = ("stage", "dvc", "zreward repro", "run worker", "daemon")
"""Processes to kill: those that run a stage, and Dagster's that started them."""
MAX_DELAY = 12.0
"""Upper bound of the delay of a kill in seconds; halved until the stage runs long enough."""


def main() -> int:
    """Print one line per measurement; returns 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill")
    parser.add_argument("--stage", default="candidates", help="the stage that is timed")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    held = []
    if options.first == 0:
        held += [definitions_load(), no_op(), overhead(options.stage)]
    if options.kills:
        numbers = range(options.first, options.first + options.kills)
        held.append(kill_trial(numbers, options.seed))
    return 0 if all(held) else 1


def definitions_load() -> bool:
    """Definitions load within 2 s in a fresh process, without heavy modules."""
    done = run(sys.executable, "-c", LOAD)
    seconds, heavy = done.stdout.strip().split(" ", 1)
    quick = report("definitions load", float(seconds), 2.0, f"heavy modules: {heavy}")
    return quick and heavy == "[]"


def no_op() -> bool:
    """`zreward repro` with nothing to do, and `dvc repro` alone."""
    bare = timed(program("dvc"), "repro")
    ours = timed(program("zreward"), "repro")
    return report("no-op dvc repro", bare, 3.0, "") & report("no-op zreward repro", ours, 4.0, "")


def overhead(stage: str) -> bool:
    """Overhead of a materialization over the stage itself."""
    alone = timed(program("zreward"), stage)
    forget(stage)
    begun = time.perf_counter()
    run(*materialize_command(stage), DAGSTER_HOME=str(prepare_home(Path.cwd())))
    whole = time.perf_counter() - begun
    note = f"{stage}: {alone:.1f} s alone, {whole:.1f} s by Dagster"
    return report("Dagster's overhead", whole - alone, 10.0, note)


def forget(stage: str) -> None:
    """Remove a stage's lock entry and the run cache, so that DVC runs it again."""
    stages = read_lock()
    stages.pop(stage, None)
    LOCK.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))
    runs = Path(".dvc/cache/runs")
    if runs.exists():
        runs.rename(Path(".dvc/cache") / f"runs_{time.time_ns()}")


def materialize_command(stage: str) -> list[str]:
    """Command that materializes a stage in a separate process, without a daemon."""
    return [program("dagster"), "asset", "materialize", "--select", stage,
            "-m", "pipelines.definitions"]  # fmt: skip


def kill_trial(numbers: range, seed: int) -> bool:
    """kill -9 at random times, over stages and victims; the next run must give the same md5s."""
    stages = list(read_graph())
    expected = {name: entry["outs"] for name, entry in read_lock().items()}
    harmed = []
    for number in numbers:
        draw = random.Random(f"{seed} {number}")
        stage, who = stages[number % len(stages)], VICTIMS[number % len(VICTIMS)]
        span, delay = MAX_DELAY, None
        while delay is None:
            forget(stage)
            delay = kill_once(stage, who, draw.uniform(0, span))
            span /= 2
        done = run(program("zreward"), "repro", "--single-item", stage, check=False)
        same = done.returncode == 0 and read_lock()[stage]["outs"] == expected[stage]
        result = "same md5s" if same else f"DIFFERENT {done.stderr[-300:]}"
        print(f"  kill {number + 1}: {who} of {stage} after {delay:.1f} s: {result}", flush=True)
        if not same:
            harmed.append((stage, who))
    print(f"kill -9: {len(numbers) - len(harmed)} of {len(numbers)} ended with the same md5s")
    return not harmed


def kill_once(stage: str, who: str, delay: float) -> float | None:
    """Start a stage and kill one of its processes.

    Args:
        stage: the stage.
        who: one of ``VICTIMS``.
        delay: seconds from the start of the stage's command to the kill.

    Returns:
        Seconds from the start to the kill, or None if the stage ended before it.
    """
    begin = {"daemon": start_by_daemon, "run worker": start_by_worker}.get(who, start_by_hand)
    process = begin(stage)
    wait_for(lambda: find(process, "zreward repro", stage))
    begun = time.monotonic()
    while find(process, "zreward repro", stage):
        victim = find(process, who, stage)
        if victim and time.monotonic() - begun >= delay:
            killed = time.monotonic() - begun
            victim.kill()
            process.wait()  # the servers stop when their daemon does
            return killed
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait()
    return None


def find(process: "subprocess.Popen[str]", who: str, stage: str) -> psutil.Process | None:
    """The victim among a process and its descendants, if it runs."""
    if who == "run worker":
        return psutil.Process(process.pid) if process.poll() is None else None
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid)
        for member in [family, *family.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                words = [Path(word).name for word in member.cmdline()[1:]]
                mine = words[-1:] == [stage]  # Dagster may be retrying an earlier killed run
                marks = {
                    "stage": words == ["zreward", stage],
                    "dvc": mine and DVC in words and "repro" in words,
                    "zreward repro": mine and words[:2] == ["zreward", "repro"],
                    "daemon": words[:3] == ["-m", "dagster._daemon", "run"],
                }
                if marks[who]:
                    return member
    return None


def start_by_hand(stage: str) -> "subprocess.Popen[str]":
    """Start a stage as in a shell."""
    return start(program("zreward"), "repro", "--single-item", stage)


def start_by_worker(stage: str) -> "subprocess.Popen[str]":
    """Start a stage by a Dagster run in a separate process."""
    home = prepare_home(Path.cwd())
    end_orphaned_runs(home)  # as `make ui` does; otherwise killed runs keep their pool slots
    return start(*materialize_command(stage), DAGSTER_HOME=str(home))


def start_by_daemon(stage: str) -> "subprocess.Popen[str]":
    """Start a stage by Dagster's daemon, as in `make ui`; returns the process of the servers."""
    from dagster_graphql import DagsterGraphQLClient

    servers = start(
        sys.executable, "-m", "pipelines.ui", "--dagster-port", "0", stdout=subprocess.PIPE
    )
    assert servers.stdout is not None
    address = next(line for line in servers.stdout if line.startswith("Dagster "))
    port = int(address.rsplit(":", 1)[1])
    client = DagsterGraphQLClient("127.0.0.1", port_number=port)
    client.submit_job_execution(
        "__ASSET_JOB", "pipelines.definitions", "__repository__", asset_selection=[[stage]]
    )
    return servers


def start(
    *command: str, stdout: int = subprocess.DEVNULL, **variables: str
) -> "subprocess.Popen[str]":
    """Start a command in a new session."""
    return subprocess.Popen(
        command, env={**environment(), **variables}, start_new_session=True, text=True,
        stdout=stdout, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, for at most ten minutes."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def timed(*command: str) -> float:
    """Wall-clock seconds of a command, the better of two runs."""
    spent = []
    for _ in range(2):
        begun = time.perf_counter()
        run(*command)
        spent.append(time.perf_counter() - begun)
    return min(spent)


def run(*command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this workspace."""
    done = subprocess.run(
        command, env={**environment(), **variables}, capture_output=True, text=True
    )
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done


def report(name: str, seconds: float, limit: float, note: str) -> bool:
    """Print one measurement; returns whether it is within the limit."""
    verdict = "ok" if seconds <= limit else "TOO SLOW"
    print(f"{name:<22} {seconds:6.2f} s (limit {limit:.0f} s) {verdict}  {note}", flush=True)
    return seconds <= limit


if __name__ == "__main__":
    sys.exit(main())
