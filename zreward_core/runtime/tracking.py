"""One MLflow run per stage, logged by a separate process (the tracker).

The import of MLflow then costs the stage no time, an error in it cannot affect the stage's outputs,
and a killed stage is still marked as killed, because its end of the pipe closes.
``ZREWARD_TRACKING=off`` disables tracking.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

logger = logging.getLogger(__name__)
RUNS = Path(".zreward/runs")
SWITCH = "ZREWARD_TRACKING"
TRACKER = "zreward_core.registry.tracker"
"""Module of the tracker; started by name, because runtime and registry are in the same layer."""
TIMEOUT = 300.0
"""Seconds that a finished stage waits for its tracker."""


class Tracked:
    """The stage's end of the pipe to the tracker."""

    def __init__(self, process: "subprocess.Popen[str] | None") -> None:
        self._process = process

    def start(self, config: BaseModel, overlay: Path | None = None) -> None:
        """Start the run; call it after the config was validated.

        Args:
            config: the resolved config of the stage.
            overlay: the file that was merged over params.yaml.
        """
        self._send({"config": config.model_dump(mode="json"), "overlay": overlay and str(overlay)})

    def end(self, status: str, message: str = "") -> None:
        """Send the final status, and a message to show with the run."""
        self._send({"status": status, "message": message})

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # the tracker failed; reported after the stage, in _finish
            return


@contextmanager
def tracked(stage: str) -> Iterator[Tracked]:
    """Track the block as one run; errors of the tracker are logged and do not propagate.

    The tracker imports MLflow while the stage imports its own libraries. ``Tracked.start`` starts
    the run; it is completed when the block ends, after the outputs are written.
    """
    process = None if os.environ.get(SWITCH, "").lower() == "off" else _spawn(stage)
    run = Tracked(process)
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt)
        run.end("KILLED" if killed else "FAILED", f"{type(error).__name__}: {error}")
        raise
    else:
        run.end("FINISHED")
    finally:
        if process is not None:
            _finish(stage, process)


def log_file(stage: str) -> Path:
    """Log file of a stage's tracker."""
    return RUNS / f"{stage}.log"


def _spawn(stage: str) -> "subprocess.Popen[str]":
    RUNS.mkdir(parents=True, exist_ok=True)
    with log_file(stage).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", TRACKER, stage],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _finish(stage: str, process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        code = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        logger.warning("the run of %s is still being written to MLflow in the background", stage)
        return
    if code != 0:
        logger.warning(
            "the run of %s is not in MLflow (see %s); its outputs are complete",
            stage,
            log_file(stage),
        )
