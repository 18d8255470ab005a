"""Running a command for a Dagster step: live output, and an end of the whole tree with the step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.dvc_state import environment, program

PATIENCE = 12.0
"""Seconds that `zreward repro` gets to end its tree before it is killed."""
PROGRESS_EVERY = 15.0
"""Seconds between two states of a progress bar in the log."""
PAGES = "ZREWARD_DAGSTER_UI"
"""Address of Dagster's pages, set by `make ui`."""


def run(
    arguments: list[str], root: Path, variables: Mapping[str, str], log: Callable[[str], object]
) -> tuple[int, str]:
    """Run `zreward ...` in a project.

    Each line goes to the log; every byte, progress bars included, to standard output, which
    Dagster captures. However the step ends, the command and all it started end with it.

    Args:
        arguments: words after `zreward`.
        root: the project.
        variables: added to the environment.
        log: takes a line.

    Returns:
        Exit code and the whole output, carriage returns resolved.
    """
    process = subprocess.Popen(
        [program("zreward"), *arguments], cwd=root, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**environment(), **variables}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    rest, spoken = "", time.monotonic()
    try:
        while chunk := os.read(process.stdout.fileno(), 65536):
            text = chunk.decode(errors="replace")
            sys.stdout.write(text)
            sys.stdout.flush()
            *whole, rest = (rest + text).split("\n")
            for line in filter(None, map(_last_state, whole)):
                lines.append(line)
                log(line)
            if "\r" in rest and time.monotonic() - spoken > PROGRESS_EVERY:
                log(_last_state(rest))
                spoken = time.monotonic()
        code = process.wait()
    except BaseException:
        end(process)
        raise
    return code, "\n".join([*lines, *filter(None, [_last_state(rest)])])


def _last_state(line: str) -> str:
    """What a terminal shows of a line after its carriage returns."""
    return line.rstrip().rsplit("\r", 1)[-1].strip()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask for an end, and kill the session where that is not heard."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def links_to(run_id: str) -> dict[str, str]:
    """Variables that tell a command which Dagster run it belongs to, for its MLflow run."""
    pages = os.environ.get(PAGES)
    variables = {"ZREWARD_DAGSTER_RUN_ID": run_id, "ZREWARD_FOLLOW_PARENT": "1"}
    return variables | ({"ZREWARD_DAGSTER_URL": f"{pages}/runs/{run_id}"} if pages else {})
