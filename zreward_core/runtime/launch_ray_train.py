"""A stage's processes on several nodes of a Ray cluster, started and restarted by Ray Train.

The job that ``launch_ray`` submits is the driver. Ray Train places the workers and initializes
their process group. If a worker or a node dies, it starts all workers again, which continue from
the stage's checkpoint.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from zreward_core.config import UserError
from zreward_core.runtime.launch_accelerate import process_environment
from zreward_core.runtime.launch_settings import Accelerate, Ray
from zreward_core.runtime.worker import ERROR_FILE, TRAINER, USER_FAULT, report_user_error

STORAGE = Path(".zreward/ray_train")
"""Ray Train's own state; the stage's checkpoints are elsewhere."""


def run_workers(
    settings: Ray, inside: Accelerate, run: Callable[[], None], shared: dict[str, str]
) -> int:
    """Run a stage in workers on all nodes and wait for them; returns an exit code.

    Args:
        settings: number of nodes, resources of each, and restarts.
        inside: processes of a node, and their precision and sharding.
        run: runs the stage in a process.
        shared: environment variables of all processes.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from zreward_core.runtime.distributed import COLLECTIVE_TIMEOUT

    number = inside.processes
    cpus = number if settings.cpus is None else settings.cpus  # Ray needs some resource
    reserved = {"CPU": cpus, "GPU": settings.gpus} | settings.resources
    environment = shared | process_environment(inside) | {TRAINER: ""}
    if inside.threads is not None:
        environment["OMP_NUM_THREADS"] = str(inside.threads)
    trainer = TorchTrainer(
        partial(work, os.getcwd(), run),
        scaling_config=ScalingConfig(
            num_workers=settings.nodes * number,
            use_gpu=bool(settings.gpus),
            resources_per_worker={name: one / number for name, one in reserved.items() if one},
        ),
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if settings.gpus and not inside.cpu else "gloo",
            timeout_s=int(COLLECTIVE_TIMEOUT.total_seconds()),
        ),
        run_config=RunConfig(
            storage_path=str(STORAGE.resolve()),
            failure_config=FailureConfig(max_failures=settings.restarts),
            worker_runtime_env={"env_vars": environment},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError:
        if Path(shared[ERROR_FILE]).is_file():
            return USER_FAULT
        raise
    finally:
        ray.shutdown()  # prints what is left of the workers' logs, before the error is shown
    return 0


def work(root: str, run: Callable[[], None]) -> None:
    """Run a stage in the project's folder, in a worker.

    Raises:
        UserError: the stage raised one, in this attempt or in one before.
    """
    os.chdir(root)
    message = Path(os.environ[ERROR_FILE])
    if message.is_file():  # Ray Train restarts whatever the error was
        raise UserError(message.read_text(encoding="utf-8"))
    try:
        run()
    except UserError as error:
        report_user_error(str(error))
        raise
