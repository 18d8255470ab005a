"""One MLflow run per stage, logged by a separate process (the tracker).

The import of MLflow then costs the stage no time, an error in it cannot affect the stage's outputs,
and a killed stage is still marked as killed, because its end of the pipe closes. The stages of one
`zreward run` share a server that forks their trackers, so that MLflow is imported once.
``ZREWARD_TRACKING=off`` disables tracking.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from zreward_core.runtime.progress import clear_live
from zreward_core.runtime.worker import owns_run

logger = logging.getLogger(__name__)
RUNS = Path(".zreward/runs")
SWITCH = "ZREWARD_TRACKING"
TRACKER = "zreward_core.registry.tracker"
TRACKER_SERVER = "zreward_core.registry.tracker_server"
"""Modules of the tracker; started by name, because runtime and registry are in the same layer."""
SERVER_SOCKET = "ZREWARD_TRACKER"
"""Environment variable of the processes of a run: Unix socket of its tracker server."""
TIMEOUT = 300.0
"""Seconds that a finished stage waits for its tracker."""


class _Own:
    """A tracker that is a process of this stage."""

    def __init__(self, stage: str) -> None:
        RUNS.mkdir(parents=True, exist_ok=True)
        with log_file(stage).open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", TRACKER, stage],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def finish(self) -> bool:
        """Close the pipe and wait; returns whether the run was logged."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            return self._process.wait(TIMEOUT) == 0
        except subprocess.TimeoutExpired:
            raise TimeoutError from None


class _Shared:
    """A tracker forked by the server of a run."""

    def __init__(self, stage: str, address: str) -> None:
        RUNS.mkdir(parents=True, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._socket.settimeout(TIMEOUT)
        self.send(json.dumps({"name": stage, "root": os.getcwd()}) + "\n")

    def send(self, line: str) -> None:
        self._socket.sendall(line.encode())

    def finish(self) -> bool:
        """Close the pipe and wait; returns whether the run was logged."""
        with self._socket, suppress(ConnectionError):
            self._socket.shutdown(socket.SHUT_WR)
            return self._socket.recv(1) == b"0"
        return False


class Tracked:
    """The stage's end of the pipe to the tracker."""

    def __init__(self, tracker: "_Own | _Shared | None") -> None:
        self._tracker = tracker

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
        if self._tracker is not None:
            with suppress(OSError):  # the tracker failed; reported after the stage
                self._tracker.send(json.dumps(message) + "\n")


@contextmanager
def tracked(stage: str) -> Iterator[Tracked]:
    """Track the block as one run; errors of the tracker are logged and do not propagate.

    The tracker imports MLflow while the stage imports its own libraries. ``Tracked.start`` starts
    the run; it is completed when the block ends, after the outputs are written.
    """
    clear_live(stage)
    tracker = _start(stage) if is_on() else None
    run = Tracked(tracker)
    try:
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt)
        run.end("KILLED" if killed else "FAILED", f"{type(error).__name__}: {error}")
        raise
    else:
        run.end("FINISHED")
    finally:
        if tracker is not None:
            _finish(stage, tracker)


@contextmanager
def shared_tracker() -> Iterator[None]:
    """Within the block the stages that this process starts share one tracker server."""
    if not is_on():
        yield
        return
    RUNS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log_file("server").open("w") as log:
        address = str(Path(folder) / "tracker")
        command = [sys.executable, "-P", "-m", TRACKER_SERVER, address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log):
            os.environ[SERVER_SOCKET] = address
            try:
                yield
            finally:
                del os.environ[SERVER_SOCKET]


def is_on() -> bool:
    """Whether this process tracks its runs."""
    return owns_run() and os.environ.get(SWITCH, "").lower() != "off"


def log_file(stage: str) -> Path:
    """Log file of a stage's tracker."""
    return RUNS / f"{stage}.log"


def _start(stage: str) -> _Own | _Shared:
    """The tracker of the run's server; one of the stage's own if there is none."""
    if address := os.environ.get(SERVER_SOCKET):
        with suppress(OSError):  # it has not started yet, or was killed
            return _Shared(stage, address)
    return _Own(stage)


def _finish(stage: str, tracker: _Own | _Shared) -> None:
    try:
        logged = tracker.finish()
    except TimeoutError:
        logger.warning("the run of %s is still being written to MLflow in the background", stage)
        return
    if not logged:
        logger.warning(
            "the run of %s is not in MLflow (see %s); its outputs are complete",
            stage,
            log_file(stage),
        )
