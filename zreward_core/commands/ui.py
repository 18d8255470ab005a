"""`zreward ui`: Dagster, MLflow and the reports of a profile."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from zreward_core.config import UserError
from zreward_core.dvc import program
from zreward_core.runtime.launch_settings import DEMO
from zreward_core.runtime.workspace import WORKSPACES, InUse, make_workspace

PIPELINES = Path("pipelines")


def start_ui(profile: str, dagster_port: int, mlflow_port: int) -> NoReturn:
    """Become the process of `python -m pipelines.ui` in the profile's folder.

    Raises:
        UserError: no such profile, or the current folder is not a project's root.
        ModuleNotFoundError: Dagster is not installed.
    """
    project = Path.cwd()
    if profile != DEMO:
        try:
            folder = make_workspace(profile)
        except InUse as error:  # a run in progress is shown as it is
            sys.stderr.write(f"{error.args[0].partition(':')[0]}\n")
            folder = WORKSPACES / profile
        os.chdir(folder)  # it has no pipelines
        paths = [str(project), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if not (project / PIPELINES).is_dir():
        raise UserError(
            f"{project} has no folder {PIPELINES}: run `zreward ui PROFILE` in a project's root"
        )
    program("dagster")
    ports = ["--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port)]
    os.execv(sys.executable, [sys.executable, "-m", "pipelines.ui", *ports])
