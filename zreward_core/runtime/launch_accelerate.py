"""Start of several processes with the environment variables that accelerate reads.

`accelerate launch` is not used: it cannot start CPU processes without MPI, and it replaces the
processes' exit codes with its own.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from zreward_core.runtime.launch_settings import Accelerate, Fsdp
from zreward_core.runtime.worker import LAUNCHER, PARENT, machine_rank

SHUTDOWN_TIMEOUT = 3.0
"""Seconds between SIGTERM and SIGKILL."""


class Stopped(BaseException):
    """This process received a termination signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_processes(settings: Accelerate, command: Sequence[str], shared: dict[str, str]) -> int:
    """Run a command in all processes of this machine and return the first failure's exit code.

    The processes stay in this process's group, so that a signal to the group reaches them.

    Args:
        settings: number of processes and rendezvous address.
        command: command of each process.
        shared: environment variables of all processes.
    """
    base = {k: v for k, v in os.environ.items() if k != LAUNCHER} | shared
    base |= common_environment(settings) | {PARENT: str(os.getpid())}
    if settings.threads is not None:
        base["OMP_NUM_THREADS"] = str(settings.threads)
    base.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // settings.processes)))
    with stoppable():
        workers: list[subprocess.Popen] = []
        try:
            for rank in range(settings.processes):
                environment = base | rank_environment(settings, rank)
                workers.append(subprocess.Popen(list(command), env=environment))
            return _first_failure(workers)
        except Stopped as stopped:
            return 128 + stopped.number
        finally:
            end(workers)


def common_environment(settings: Accelerate) -> dict[str, str]:
    """Environment variables of accelerate that are the same in every process."""
    found = {
        "WORLD_SIZE": str(settings.processes * settings.machines),
        "LOCAL_WORLD_SIZE": str(settings.processes),
        "MASTER_ADDR": settings.main_ip or "127.0.0.1",
        "MASTER_PORT": str(settings.main_port or _free_port()),
    }
    return found | process_environment(settings)


def process_environment(settings: Accelerate) -> dict[str, str]:
    """Environment variables of accelerate that do not depend on the group of processes."""
    found = {
        "ACCELERATE_MIXED_PRECISION": settings.mixed_precision,
        "ACCELERATE_USE_CPU": str(settings.cpu).lower(),
    }
    return found | (fsdp_environment(settings.fsdp) if settings.fsdp else {})


def fsdp_environment(settings: Fsdp) -> dict[str, str]:
    """Environment variables of accelerate's `FullyShardedDataParallelPlugin` and
    `ParallelismConfig`.
    """
    found = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": str(settings.reshard_after_forward).lower(),
        "FSDP_OFFLOAD_PARAMS": str(settings.cpu_offload).lower(),
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": str(settings.replicas),
    }
    if settings.layers:
        found["FSDP_TRANSFORMER_CLS_TO_WRAP"] = ",".join(settings.layers)
    return found


def rank_environment(settings: Accelerate, local_rank: int) -> dict[str, str]:
    """Ranks of a process."""
    rank = machine_rank() * settings.processes + local_rank
    return {"RANK": str(rank), "LOCAL_RANK": str(local_rank)}


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP raise ``Stopped``."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(workers: list[subprocess.Popen]) -> None:
    """Terminate the processes that still run; SIGKILL after the timeout."""
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.terminate()
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    for worker in running:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _first_failure(workers: list[subprocess.Popen]) -> int:
    """Wait until all succeed or one fails: 0, its exit code, or 128 plus its signal."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [code for code in codes if code]
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
