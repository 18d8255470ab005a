"""Running a command for a Dagster step: streamed output, and termination with the step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from zreward_core.dvc import environment, program

SHUTDOWN_TIMEOUT = 12.0
"""Seconds for `zreward repro` to terminate its process tree before SIGKILL."""
PROGRESS_EVERY = 15.0
"""Seconds between two log lines of a progress bar."""
DAGSTER_UI = "ZREWARD_DAGSTER_UI"
"""Environment variable with the address of Dagster's UI, set by `make ui`."""


def run(
    arguments: list[str], root: Path, variables: Mapping[str, str], log: Callable[[str], object]
) -> tuple[int, str]:
    """Run `zreward ...` in a project.

    Lines go to the log; all output, progress bars included, goes to stdout, which Dagster
    captures. The command and its process tree are terminated when the step ends.

    Args:
        arguments: arguments of `zreward`.
        root: the project.
        variables: additional environment variables.
        log: called with each line.

    Returns:
        Exit code, and the output with carriage returns resolved.
    """
    process = subprocess.Popen(
        [program("zreward"), *arguments], cwd=root, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**environment(), **variables}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    rest, logged_at = "", time.monotonic()
    try:
        while chunk := os.read(process.stdout.fileno(), 65536):
            text = chunk.decode(errors="replace")
            sys.stdout.write(text)
            sys.stdout.flush()
            *whole, rest = (rest + text).split("\n")
            for line in filter(None, map(_last_state, whole)):
                lines.append(line)
                log(line)
            if "\r" in rest and time.monotonic() - logged_at > PROGRESS_EVERY:
                log(_last_state(rest))
                logged_at = time.monotonic()
        code = process.wait()
    except BaseException:
        end(process)
        raise
    return code, "\n".join([*lines, *filter(None, [_last_state(rest)])])


def _last_state(line: str) -> str:
    """The text of a line after its last carriage return."""
    return line.rstrip().rsplit("\r", 1)[-1].strip()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process; SIGKILL to its session after the timeout."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(SHUTDOWN_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def links_to(run_id: str) -> dict[str, str]:
    """Environment variables that link a command's MLflow run to its Dagster run.

    The runs of its stages have one parent in MLflow.
    """
    address = os.environ.get(DAGSTER_UI)
    variables = {"ZREWARD_DAGSTER_RUN_ID": run_id, "ZREWARD_FOLLOW_PARENT": "1"}
    variables["ZREWARD_PIPELINE"] = f"Dagster {run_id[:8]}"
    return variables | ({"ZREWARD_DAGSTER_URL": f"{address}/runs/{run_id}"} if address else {})
