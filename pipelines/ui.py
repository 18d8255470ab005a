"""Dagster, MLflow and the reports on this machine: `python -m pipelines.ui`; Ctrl-C stops them.

With a token in the environment (``TOKEN``), the pages ask for it as a password.
"""

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

from pipelines.commands import DAGSTER_UI
from pipelines.guard import MARK
from pipelines.metadata import MLFLOW_UI, REPORTS_UI
from pipelines.orphaned_runs import end_orphaned_runs
from pipelines.servers import HOST, TOKEN
from zreward_core.dvc import environment

MIN_TOKEN = 16
"""Characters of a token; the servers do not limit the number of guesses."""
STATE = Path(".zreward")
START_TIMEOUT = 300.0
"""Seconds until the servers must answer."""
GRPC_TIMEOUT = "300"
"""Seconds for calls between Dagster's processes; training may slow the machine down."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds between SIGINT to the servers and SIGKILL."""


def main() -> int:
    """Start the servers, print their addresses, and wait for Ctrl-C or a server's end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dagster-port", type=int, default=3000)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    ports = parser.parse_args()
    token = os.environ.get(TOKEN, "")
    if token and len(token) < MIN_TOKEN:
        parser.error(f"the token has {len(token)} characters: use at least {MIN_TOKEN}")
    root = Path.cwd()
    home = prepare_home(root)
    for run in end_orphaned_runs(home):
        print(f"The process of run {run[:8]} no longer exists; Dagster retries the run.")
    dagster, mlflow, reports = free_ports(ports.dagster_port, ports.mlflow_port, 8000)
    ports_of = {DAGSTER_UI: dagster, MLFLOW_UI: mlflow, REPORTS_UI: reports}
    addresses = {name: f"http://{HOST}:{port}" for name, port in ports_of.items()}
    variables = {
        **environment(), **addresses,
        "DAGSTER_HOME": str(home),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_GRPC_TIMEOUT_SECONDS": GRPC_TIMEOUT,
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": GRPC_TIMEOUT,
    }  # fmt: skip
    commands = {
        "dagster": dagster_command(dagster),
        "reports": server("reports", str(reports), str(root / "reports")),
    }
    if importlib.util.find_spec("mlflow"):
        commands["mlflow"] = mlflow_command(root, mlflow)
    for number in (signal.SIGINT, signal.SIGTERM):  # a background shell may have it ignored
        signal.signal(number, _interrupt)
    servers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            log = (home / f"{name}.log").open("wb")
            servers[name] = subprocess.Popen(
                command, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        shown = {"Dagster": addresses[DAGSTER_UI]}
        if "mlflow" in commands:
            shown["MLflow"] = addresses[MLFLOW_UI]
        shown["Reports"] = addresses[REPORTS_UI]
        wait_until_up(list(shown.values()), servers, home)
        for title, address in shown.items():
            print(f"{title:<8} {address}", flush=True)
        if token:
            print("The pages ask for the token: enter it as password, with any user name.")
        print("Ctrl-C stops them.", flush=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.2)
        failed = [name for name, server in servers.items() if server.poll() is not None]
        print(f"{', '.join(failed)} stopped unexpectedly; see {home}/*.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        end_all(servers)


def prepare_home(root: Path) -> Path:
    """Create the folder of Dagster's instance with the repository's dagster.yaml."""
    home = root / STATE / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (root / "reports").mkdir(exist_ok=True)
    settings = root / "dagster.yaml"
    if not settings.is_file():  # the workspace of a profile
        settings = Path(__file__).parents[1] / "dagster.yaml"
    shutil.copyfile(settings, home / "dagster.yaml")
    return home


def dagster_command(port: int) -> list[str]:
    """Command that starts webserver, daemon and code server."""
    return server("dagster", "-m", "pipelines.definitions", "-h", HOST, "-p", str(port),
                  "--log-level", "warning", "--code-server-log-level", "warning")  # fmt: skip


def mlflow_command(root: Path, port: int) -> list[str]:
    """Command that starts the tracking server on the project's store."""
    database = (root / STATE / "mlflow.db").resolve()
    artifacts = (root / STATE / "mlartifacts").resolve()
    artifacts.mkdir(parents=True, exist_ok=True)
    return server("mlflow", str(port), str(database), str(artifacts))


def server(name: str, *arguments: str) -> list[str]:
    """Command that starts a server of ``pipelines.servers``."""
    return [sys.executable, "-m", "pipelines.servers", name, *arguments]


def free_ports(*wanted: int) -> list[int]:
    """The wanted ports, with free ones instead of those in use."""
    found: list[int] = []
    for port in wanted:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((HOST, port if port not in found else 0))
            except OSError:
                server.bind((HOST, 0))
            found.append(server.getsockname()[1])
    return found


def wait_until_up(
    addresses: list[str], servers: dict[str, "subprocess.Popen[bytes]"], home: Path
) -> None:
    """Wait until each address answers.

    Raises:
        SystemExit: a server exited, is not guarded, or does not answer in time; names its log.
    """
    deadline = time.monotonic() + START_TIMEOUT
    waiting = list(addresses)
    while waiting:
        failed = [name for name, server in servers.items() if server.poll() is not None]
        if failed or time.monotonic() > deadline:
            names = ", ".join(failed) or "a server"
            raise SystemExit(f"{names} did not start; see {home}/*.log")
        waiting = [address for address in waiting if not _answers(address)]
        time.sleep(0.3)


def end_all(servers: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """Interrupt the servers; SIGKILL to their sessions after the timeout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for server in servers.values():
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    while time.monotonic() < deadline and any(s.poll() is None for s in servers.values()):
        time.sleep(0.1)
    for server in servers.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    """Whether a server is up.

    Raises:
        SystemExit: it answers a request to another host, so the guard is missing.
    """
    request = urllib.request.Request(address, headers={"Host": "another.invalid"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            found = ""
    except urllib.error.HTTPError as error:
        found = error.read().decode(errors="replace")
    except OSError:
        return False
    if not found.startswith(MARK):
        raise SystemExit(f"{address} answers without the guard of pipelines/guard.py: not started")
    return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
