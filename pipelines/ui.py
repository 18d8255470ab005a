"""Dagster and MLflow on this machine: `python -m pipelines.ui`, ended whole by Ctrl-C."""

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipelines.commands import PAGES
from pipelines.dvc_state import environment, program
from pipelines.metadata import MLFLOW_PAGES, REPORT_PAGES
from pipelines.orphaned_runs import end_abandoned

HOST = "127.0.0.1"
STATE = Path(".zreward")
WAIT = 300.0
"""Seconds for the servers to answer."""
PATIENCE = "300"
"""Seconds that Dagster's processes wait for each other: trainings may take the whole machine."""
GRACE = 5.0
"""Seconds from asking the servers to end to killing them."""


def main() -> int:
    """Start the servers, print their addresses, and wait for Ctrl-C or a server's end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dagster-port", type=int, default=3000)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    ports = parser.parse_args()
    root = Path.cwd()
    home = prepare_home(root)
    for run in end_abandoned(home):
        print(f"Run {run[:8]} was left by a process that is gone; Dagster starts it again.")
    dagster, mlflow, reports = free_ports(ports.dagster_port, ports.mlflow_port, 8000)
    pages = {PAGES: dagster, MLFLOW_PAGES: mlflow, REPORT_PAGES: reports}
    addresses = {name: f"http://{HOST}:{port}" for name, port in pages.items()}
    variables = {
        **environment(), **addresses,
        "DAGSTER_HOME": str(home),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_GRPC_TIMEOUT_SECONDS": PATIENCE,
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": PATIENCE,
    }  # fmt: skip
    commands = {
        "dagster": dagster_command(dagster),
        "reports": [sys.executable, "-m", "http.server", str(reports), "--bind", HOST,
                    "--directory", str(root / "reports")],
    }  # fmt: skip
    if importlib.util.find_spec("mlflow"):
        commands["mlflow"] = mlflow_command(root, mlflow)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have it ignored in background
        signal.signal(number, _interrupt)
    servers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            log = (home / f"{name}.log").open("wb")
            servers[name] = subprocess.Popen(
                command, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        wanted = [addresses[PAGES]] + ([addresses[MLFLOW_PAGES]] if "mlflow" in commands else [])
        wait_until_up(wanted, servers, home)
        print(f"Dagster  {addresses[PAGES]}", flush=True)
        if "mlflow" in commands:
            print(f"MLflow   {addresses[MLFLOW_PAGES]}", flush=True)
        print("Ctrl-C ends both.", flush=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.2)
        fallen = [name for name, server in servers.items() if server.poll() is not None]
        print(f"{', '.join(fallen)} ended by itself; see {home}/*.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        end_all(servers)


def prepare_home(root: Path) -> Path:
    """The folder of Dagster's instance, with the settings of the repository."""
    home = root / STATE / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (root / "reports").mkdir(exist_ok=True)
    settings = root / "dagster.yaml"
    if not settings.is_file():  # the workspace of a profile
        settings = Path(__file__).parents[1] / "dagster.yaml"
    shutil.copyfile(settings, home / "dagster.yaml")
    return home


def dagster_command(port: int) -> list[str]:
    """Webserver, daemon and code server."""
    return [program("dagster"), "dev", "-m", "pipelines.definitions", "-h", HOST, "-p", str(port),
            "--log-level", "warning", "--code-server-log-level", "warning"]  # fmt: skip


def mlflow_command(root: Path, port: int) -> list[str]:
    """The tracking server and model registry over the files of the project."""
    database = (root / STATE / "mlflow.db").resolve()
    artifacts = (root / STATE / "mlartifacts").resolve()
    artifacts.mkdir(parents=True, exist_ok=True)
    return [program("mlflow"), "server", "--host", HOST, "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{database}",
            "--default-artifact-root", artifacts.as_uri()]  # fmt: skip


def free_ports(*wanted: int) -> list[int]:
    """The wanted ports, or free ones in place of those that are taken."""
    found: list[int] = []
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port if port not in found else 0))
            except OSError:
                with socket.socket() as other:
                    other.bind((HOST, 0))
                    found.append(other.getsockname()[1])
                continue
            found.append(probe.getsockname()[1])
    return found


def wait_until_up(
    addresses: list[str], servers: dict[str, "subprocess.Popen[bytes]"], home: Path
) -> None:
    """Wait until each address answers.

    Raises:
        SystemExit: a server ended, or does not answer in time; names its log.
    """
    deadline = time.monotonic() + WAIT
    waiting = list(addresses)
    while waiting:
        fallen = [name for name, server in servers.items() if server.poll() is not None]
        if fallen or time.monotonic() > deadline:
            names = ", ".join(fallen) or "a server"
            raise SystemExit(f"{names} did not start; see {home}/*.log")
        waiting = [address for address in waiting if not _answers(address)]
        time.sleep(0.3)


def end_all(servers: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """Ask every server's session to end, and kill what does not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for server in servers.values():
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(s.poll() is None for s in servers.values()):
        time.sleep(0.1)
    for server in servers.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
