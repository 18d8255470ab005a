"""Tracker of all stages of one `zreward run`: ``python -m zreward_core.registry.tracker_server``.

It imports MLflow once and forks a tracker for each stage, so that a failure in one is that of a
process of its own. It ends with the process that started it, which holds its stdin.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

from zreward_core.registry import tracker
from zreward_core.store import SETTINGS

PRELOADED = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.local_artifact_repo",
    "dvc.dependency",
    "dvc.repo",
)
"""Imported before forking. The store itself is opened by each tracker: SQLite forbids a fork."""


def main() -> None:
    """Listen on the Unix socket named on the command line."""
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, intended for the stages
        signal.signal(one, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        address = sys.argv[1]
        server.bind(f"{address}.new")
        server.listen()
        os.rename(f"{address}.new", address)  # a stage that finds it can connect
        os.environ.update({**SETTINGS, **os.environ})
        for name in PRELOADED:
            importlib.import_module(name)
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _track(connection)
                return
            connection.close()


def _track(connection: socket.socket) -> None:
    """Track the stage that has connected; it sends its name and root, then a tracker's lines."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    lines = connection.makefile("r")
    stage = json.loads(lines.readline())
    os.chdir(stage["root"])
    with (tracker.RUNS / f"{stage['name']}.log").open("w") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    sys.argv[1:], sys.stdin = [stage["name"]], lines
    code = b"1"
    try:
        tracker.main()
        code = b"0"
    finally:
        connection.sendall(code)


if __name__ == "__main__":
    main()
