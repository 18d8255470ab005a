"""Limits that a person feels, measured and printed: `make limits`.

Run in a workspace whose chain is done (`make run PROFILE=smoke`). Kills are bounded by --kills;
with 0 nothing is killed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

from pipelines.dvc_state import environment, program, read_lock
from pipelines.graph import read_graph

HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "datasets")
LOAD = f"""
import sys, time
begun = time.perf_counter()
from pathlib import Path
from pipelines.definitions import build_definitions
build_definitions(Path.cwd()).get_repository_def()
print(time.perf_counter() - begun, [name for name in {HEAVY} if name in sys.modules])
"""


def main() -> int:
    """Measure, print a line each, and exit with 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--stage", default="candidates", help="the stage that is timed")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    held = [definitions_load(), no_op(), overhead(options.stage)]
    if options.kills:
        held.append(kill_trial(options.kills, random.Random(options.seed)))
    return 0 if all(held) else 1


def definitions_load() -> bool:
    """Definitions load within 2 s in a fresh process, without anything heavy."""
    done = run(sys.executable, "-c", LOAD)
    seconds, heavy = done.stdout.strip().split(" ", 1)
    quick = told("definitions load", float(seconds), 2.0, f"heavy modules: {heavy}")
    return quick and heavy == "[]"


def no_op() -> bool:
    """`zreward repro` with nothing to do, and DVC's own share of it."""
    bare = timed(program("dvc"), "repro")
    ours = timed(program("zreward"), "repro")
    return told("no-op dvc repro", bare, 3.0, "") & told("no-op zreward repro", ours, 4.0, "")


def overhead(stage: str) -> bool:
    """What a materialization costs beyond the stage itself."""
    home = Path.cwd() / ".zreward/limits"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").touch()
    alone = timed(program("zreward"), stage)
    forget(stage)
    begun = time.perf_counter()
    run(
        program("dagster"), "asset", "materialize", "--select", stage,
        "-m", "pipelines.definitions", DAGSTER_HOME=str(home),
    )  # fmt: skip
    whole = time.perf_counter() - begun
    note = f"{stage}: {alone:.1f} s alone, {whole:.1f} s by Dagster"
    return told("Dagster's overhead", whole - alone, 10.0, note)


def forget(stage: str) -> None:
    """Make DVC run a stage again: without its lock entry and its run cache."""
    lock = Path("dvc.lock")
    content = yaml.safe_load(lock.read_text())
    content["stages"].pop(stage)
    lock.write_text(yaml.safe_dump(content, sort_keys=False))
    runs = Path(".dvc/cache/runs")
    if runs.exists():
        runs.rename(Path(".dvc/cache") / f"runs_{time.time_ns()}")


def kill_trial(kills: int, draw: random.Random) -> bool:
    """kill -9 of a stage, of DVC or of what started it; the next run ends with the same md5s."""
    stages = list(read_graph(Path.cwd()))
    expected = {name: entry["outs"] for name, entry in read_lock(Path.cwd()).items()}
    harmed = []
    for number in range(kills):
        stage = stages[number % len(stages)]
        who = draw.choice(["stage", "dvc", "zreward repro"])
        forget(stage)
        delay = kill_once(stage, who, draw)
        done = run(program("zreward"), "repro", "--single-item", stage, check=False)
        same = done.returncode == 0 and read_lock(Path.cwd())[stage]["outs"] == expected[stage]
        result = "same md5s" if same else f"DIFFERENT {done.stderr[-300:]}"
        print(f"  kill {number + 1}: {who} of {stage} after {delay:.1f} s: {result}", flush=True)
        if not same:
            harmed.append((stage, who))
    print(f"kill -9: {kills - len(harmed)} of {kills} ended with the same md5s")
    return not harmed


def kill_once(stage: str, who: str, draw: random.Random) -> float:
    """Start a stage and kill one of its processes at a random moment."""
    process = subprocess.Popen(
        [program("zreward"), "repro", "--single-item", stage], env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    begun = time.monotonic()
    until = draw.uniform(0.5, 12.0)
    while time.monotonic() - begun < until and process.poll() is None:
        time.sleep(0.05)
    victims = [process.pid] if who == "zreward repro" else []
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            line = " ".join(child.cmdline())
            if {"dvc": "/dvc ", "stage": f"zreward {stage}"}.get(who, "nobody") in line:
                victims.append(child.pid)
    for victim in victims[:1]:
        if psutil.pid_exists(victim):
            os.kill(victim, signal.SIGKILL)
    process.wait()
    return time.monotonic() - begun


def timed(*command: str) -> float:
    """Wall seconds of a command, the better of two."""
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


def told(what: str, seconds: float, limit: float, note: str) -> bool:
    """Print one measurement."""
    verdict = "ok" if seconds <= limit else "TOO SLOW"
    print(f"{what:<22} {seconds:6.2f} s (limit {limit:.0f} s) {verdict}  {note}", flush=True)
    return seconds <= limit


if __name__ == "__main__":
    sys.exit(main())
