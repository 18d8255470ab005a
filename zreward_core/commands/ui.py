"""`zreward ui`: Dagster and MLflow of the project in the current folder."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from zreward_core.config import UserError
from zreward_core.dvc import program

PIPELINES = Path("pipelines")


def start_ui(dagster_port: int, mlflow_port: int) -> NoReturn:
    """Become the process of `python -m pipelines.ui`.

    Raises:
        UserError: the folder is not a project.
        ModuleNotFoundError: Dagster is not installed.
    """
    if not PIPELINES.is_dir():
        raise UserError(f"{Path.cwd()} has no folder {PIPELINES}: run in a project's root")
    program("dagster")
    ports = ["--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port)]
    os.execv(sys.executable, [sys.executable, "-m", "pipelines.ui", *ports])
