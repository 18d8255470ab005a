"""From `zreward STAGE` to the process or processes that run it, as launch.yaml says.

A launcher starts workers that run the same `zreward STAGE`, shows what they print, passes signals
on and gives back their exit code. Calling process and workers share the project's folder.
"""

import os
import shlex
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import yaml

from zreward_core.config import UserError
from zreward_core.runtime.launch_settings import (
    LAUNCH_FILE,
    LOCAL,
    Accelerate,
    Kubernetes,
    Launcher,
    Ray,
    read_launcher,
)
from zreward_core.runtime.worker import ERROR_FILE, LAUNCHER, USER_FAULT, WORKER, is_worker

MESSAGES = Path(".zreward/launch")
"""Messages of workers to their launcher."""
AS_WORKER = {WORKER: "1", "ZREWARD_TRACKING": "off"}
"""Environment of a worker: the process that launched it tracks."""


def launch(
    stage: str, arguments: list[str], known: tuple[str, ...], run: Callable[[], None]
) -> None:
    """Run a stage here, or start its workers and wait for them.

    Args:
        stage: name of the stage.
        arguments: options of the stage's command.
        known: names of all stages.
        run: runs the stage in this process.

    Raises:
        UserError: launch.yaml is wrong, or a worker met a fault of the user.
        SystemExit: workers failed, with their exit code.
    """
    nested = os.environ.get(LAUNCHER)
    if is_worker() and nested is None:
        run()
        return
    launcher = read_launcher(stage, known, nested)
    if launcher is None:
        run()
        return
    message = MESSAGES / f"{stage}-{uuid.uuid4().hex[:8]}.error"
    try:
        code = start(launcher, stage, arguments, message)
        if code == USER_FAULT:
            raise UserError(
                message.read_text(encoding="utf-8")
                if message.is_file()
                else f"the workers of {stage} ended with exit code 2: see their output above"
            )
        if code != 0:
            sys.exit(code)
    finally:
        message.unlink(missing_ok=True)


def start(launcher: Launcher, stage: str, arguments: list[str], message: Path) -> int:
    """Start a stage's workers, wait for them, and return their exit code; this process tracks.

    Args:
        message: file in the project's folder that takes the message of a fault of the user.
    """
    if isinstance(launcher, Accelerate):
        from zreward_core.runtime.launch_accelerate import run_processes

        # -P: a workspace holds a copy of the code, which must not come before the installed one
        command = [sys.executable, "-P", "-m", "zreward_core", stage, *arguments]
        return run_processes(launcher, command, AS_WORKER | {ERROR_FILE: str(message.resolve())})
    command, environment = job_of(launcher, stage, arguments, message)
    if isinstance(launcher, Kubernetes):
        from zreward_core.runtime import launch_kubernetes

        return launch_kubernetes.run_job(launcher, stage, command, environment)
    from zreward_core.runtime import launch_ray

    return launch_ray.run_job(launcher, stage, command, environment)


def job_of(
    launcher: Ray | Kubernetes, stage: str, arguments: list[str], message: Path
) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a stage's job on a cluster."""
    environment = AS_WORKER | {ERROR_FILE: str(message)} | launcher.environment
    if launcher.inside != LOCAL:
        environment[LAUNCHER] = launcher.inside
    root = launcher.root or os.getcwd()
    command = [*shlex.split(launcher.command), "--root", root, stage, *arguments]
    return command, environment


def job_manifest(stage: str, known: tuple[str, ...]) -> str:
    """The Kubernetes Job of a stage as YAML; nothing is started.

    Raises:
        UserError: launch.yaml is wrong, or the stage's launcher is not of kind kubernetes.
    """
    from zreward_core.runtime.launch_kubernetes import manifest

    launcher = read_launcher(stage, known)
    if not isinstance(launcher, Kubernetes):
        raise UserError(f"{LAUNCH_FILE}: 'stages.{stage}' names no launcher of kind kubernetes")
    command, environment = job_of(launcher, stage, [], MESSAGES / f"{stage}.error")
    return yaml.safe_dump(manifest(launcher, stage, command, environment), sort_keys=False)
