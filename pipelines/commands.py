"""Running a command for a Dagster step: live output, and an end of the whole tree with the step."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.dvc_state import environment, program

PATIENCE = 12.0
"""Seconds that `zreward repro` gets to end its tree before it is killed."""
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
    lines = []
    try:
        for raw in process.stdout:
            text = raw.decode(errors="replace")
            sys.stdout.write(text)
            sys.stdout.flush()
            line = text.rstrip().rsplit("\r", 1)[-1]
            if line:
                lines.append(line)
                log(line)
        code = process.wait()
    except BaseException:
        end(process)
        raise
    return code, "\n".join(lines)


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
