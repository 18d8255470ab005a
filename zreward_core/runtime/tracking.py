"""One MLflow run a stage, logged by a process of its own.

MLflow is loaded beside the stage, not in it: its import costs the stage no time, nothing it does
can change or lose what the stage computes, and a stage that is killed is still marked as such,
because the tracker sees its end of the pipe close. ``ZREWARD_TRACKING=off`` switches it off.
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
"""The other side of the pipe; started by name, since it lives with the rest of MLflow."""
PATIENCE = 300.0
"""Seconds that a finished stage waits for its tracker."""


class Tracked:
    """The stage's side of the pipe: it says what the run is made with."""

    def __init__(self, process: "subprocess.Popen[str] | None") -> None:
        self._process = process

    def start(self, config: BaseModel, overlay: Path | None = None) -> None:
        """Open the run: everything the stage was asked for is valid.

        Args:
            config: the resolved config of the stage.
            overlay: the file that was laid over params.yaml.
        """
        self._tell({"config": config.model_dump(mode="json"), "overlay": overlay and str(overlay)})

    def end(self, status: str, message: str = "") -> None:
        """Close the run and wait until it is written."""
        self._tell({"status": status, "message": message})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # the tracker is gone; the stage is told when it has finished
            return


@contextmanager
def tracked(stage: str) -> Iterator[Tracked]:
    """Track what happens inside the block as one run; nothing that goes wrong here ends it.

    The tracker starts at once and loads MLflow while the stage loads its own libraries; the run is
    opened by ``Tracked.start`` and written when the block ends, after the outputs are whole.
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
    """Where the tracker of a stage writes what it has to say."""
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
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        logger.warning("MLflow has not taken the run of %s yet; it goes on writing", stage)
        return
    if code != 0:
        logger.warning(
            "the run of %s is not in MLflow (see %s); its outputs are whole", stage, log_file(stage)
        )
