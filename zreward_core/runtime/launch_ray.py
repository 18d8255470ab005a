"""A stage as a job submitted to a Ray cluster: `zreward STAGE` on one of its nodes."""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from zreward_core.config import UserError
from zreward_core.launch_file import launch_file_name
from zreward_core.runtime.launch_accelerate import Stopped, stoppable
from zreward_core.runtime.launch_settings import Ray

SHUTDOWN_TIMEOUT = 15.0
"""Seconds to wait for a stopped job."""


def run_job(settings: Ray, stage: str, command: Sequence[str], environment: dict[str, str]) -> int:
    """Submit a job, print its log, and return its exit code; a signal stops the job.

    Args:
        settings: address of the cluster, and resources to reserve.
        stage: name of the stage, for the job's metadata.
        command: command of the job.
        environment: environment variables of the job.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or it takes no job.
    """
    client = _connect(settings.address)
    with stoppable():
        job = _submit(
            client,
            settings.address,
            entrypoint=shlex.join(command),
            runtime_env={"env_vars": environment},
            metadata={"zreward_stage": stage},
            **(_reserved(settings) if settings.nodes == 1 else {}),  # else for the workers
        )
        try:
            asyncio.run(_show(client, job))
            return _exit_code(client, job)
        except Stopped as stopped:
            client.stop_job(job)
            deadline = time.monotonic() + SHUTDOWN_TIMEOUT
            while time.monotonic() < deadline and not _ended(client, job):
                time.sleep(0.2)
            return 128 + stopped.number


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise UserError(
            f"{launch_file_name()} uses Ray, which is not installed: pip install 'zreward[ray]'"
        ) from None
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"{launch_file_name()}: no Ray cluster at {address} ({error}): start it or"
            " correct the address"
        ) from None


def _submit(client: Any, address: str, **job: Any) -> str:
    try:
        return client.submit_job(**job)
    except RuntimeError as error:  # of the server, for example before a node's agent has started
        raise UserError(
            f"{launch_file_name()}: the Ray cluster at {address} did not take the job ({error}):"
            " see its logs, and try again"
        ) from None


def _reserved(settings: Ray) -> dict[str, Any]:
    return {
        "entrypoint_num_cpus": settings.cpus,
        "entrypoint_num_gpus": settings.gpus,
        "entrypoint_resources": settings.resources or None,
    }


async def _show(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        sys.stderr.write(text)
        sys.stderr.flush()


def _ended(client: Any, job: str) -> bool:
    return client.get_job_status(job).is_terminal()


def _exit_code(client: Any, job: str) -> int:
    """Exit code of the job's process; 1 if Ray could not start it."""
    while not _ended(client, job):
        time.sleep(0.2)
    found = client.get_job_info(job)
    if found.status == "SUCCEEDED":
        return 0
    if found.driver_exit_code is None:
        sys.stderr.write(f"Ray: {found.message}\n")
    code = found.driver_exit_code or 1
    return code if code > 0 else 128 - code
