"""From `zreward STAGE` to the processes that run it, configured by launch.yaml.

A launcher starts workers that run the same `zreward STAGE`, prints their output, forwards signals
and returns their exit code. The calling process and the workers share the project's folder. A
process of a group that something else started (torchrun) runs the stage at once.
"""

import os
import shlex
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from zreward_core.config import UserError
from zreward_core.runtime.launch_settings import (
    LOCAL,
    Accelerate,
    Launcher,
    Ray,
    read_launcher,
    require_divided,
)
from zreward_core.runtime.worker import (
    ERROR_FILE,
    LAUNCHER,
    TRAINER,
    USER_FAULT,
    WORKER,
    is_member,
    is_worker,
)

MESSAGES = Path(".zreward/launch")
"""Error messages of workers for their launcher."""
AS_WORKER = {WORKER: "1", "ZREWARD_TRACKING": "off"}
"""Environment of a worker; the process that launched it tracks the run."""


def launch(
    stage: str, arguments: list[str], known: tuple[str, ...], run: Callable[[], None]
) -> None:
    """Run a stage in this process, or start its workers and wait for them.

    Args:
        stage: name of the stage.
        arguments: options of the stage's command.
        known: names of all stages.
        run: runs the stage in this process.

    Raises:
        UserError: launch.yaml is invalid, or a worker raised a UserError.
        SystemExit: workers failed; the exit code is theirs.
    """
    nested, drives = os.environ.get(LAUNCHER), bool(os.environ.get(TRAINER))
    if is_member():
        require_divided(stage, "RANK and WORLD_SIZE are set")
    if is_member() or (is_worker() and nested is None and not drives):
        run()
        return
    launcher = read_launcher(stage, known, nested)
    if launcher is None:
        run()
        return
    message = MESSAGES / f"{stage}-{uuid.uuid4().hex[:8]}.error"
    try:
        if drives and isinstance(launcher, Ray):
            inside = read_launcher(stage, known, launcher.inside)
            code = drive(launcher, inside, run, message)
        else:
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
    """Start a stage's workers, wait for them, and return their exit code.

    Args:
        message: file in the project's folder for the message of a worker's UserError.
    """
    if isinstance(launcher, Accelerate):
        from zreward_core.runtime.launch_accelerate import run_processes

        # -P: a workspace contains a copy of the code, which must not shadow the installed one
        command = [sys.executable, "-P", "-m", "zreward_core", stage, *arguments]
        return run_processes(launcher, command, AS_WORKER | {ERROR_FILE: str(message.resolve())})
    from zreward_core.runtime.launch_ray import run_job

    command, environment = job_of(launcher, stage, arguments, message)
    return run_job(launcher, stage, command, environment)


def drive(launcher: Ray, inside: Launcher | None, run: Callable[[], None], message: Path) -> int:
    """Run a stage by Ray Train on several nodes, from the job on the cluster."""
    from zreward_core.runtime.launch_ray_train import run_workers

    assert isinstance(inside, Accelerate)
    return run_workers(launcher, inside, run, AS_WORKER | {ERROR_FILE: str(message.resolve())})


def job_of(
    launcher: Ray, stage: str, arguments: list[str], message: Path
) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a stage's job on a cluster."""
    environment = AS_WORKER | {ERROR_FILE: str(message)} | launcher.environment
    if launcher.nodes > 1:
        environment[TRAINER] = "1"
    elif launcher.inside != LOCAL:
        environment[LAUNCHER] = launcher.inside
    root = launcher.root or os.getcwd()
    command = [*shlex.split(launcher.command), "--root", root, stage, *arguments]
    return command, environment
