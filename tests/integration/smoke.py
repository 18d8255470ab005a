"""The smoke profile's workspace after `dvc repro`, made once per test run for all workers."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def execute(*command: str, cwd: Path, tracking: str = "off") -> subprocess.CompletedProcess[str]:
    """Run a command of this environment; MLflow tracking, which costs seconds, is off."""
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ZREWARD_TRACKING": tracking
    }  # fmt: skip
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def repro(workspace: Path, tracking: str = "off") -> str:
    """Run `dvc repro dvc.yaml`, which must succeed."""
    done = execute("dvc", "repro", "dvc.yaml", cwd=workspace, tracking=tracking)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def read(path: Path) -> dict:
    """Read a JSON file."""
    return json.loads(path.read_text())


def make_workspace(project: Path) -> Path:
    """Copy the project's sources and create the workspace of the smoke profile in the copy."""
    project.mkdir()
    for name in ("dvc.yaml", ".dvcignore", "params.yaml", "params", "zreward_core", "benchmarks"):
        if (ROOT / name).is_dir():
            excluded = shutil.ignore_patterns("cells", "predictions", "__pycache__")
            shutil.copytree(ROOT / name, project / name, ignore=excluded)
        else:
            shutil.copyfile(ROOT / name, project / name)
    (project / "data/drops").mkdir(parents=True)
    shutil.copytree(ROOT / "data/bases", project / "data/bases")
    for name in ("rubric.yaml", "champion.yaml"):
        shutil.copyfile(ROOT / "data" / name, project / "data" / name)
    made = execute("zreward", "workspace", "smoke", cwd=project)
    assert made.returncode == 0, made.stderr
    return project / made.stdout.strip()


@pytest.fixture(scope="session")
def finished_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace after `dvc repro`; the first worker to ask makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    finished = shared / "smoke_workspace"
    with (shared / "smoke_workspace.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            workspace = make_workspace(tmp_path_factory.mktemp("smoke") / "project")
            repro(workspace, tracking="on")
            workspace.rename(finished)
    return finished


@pytest.fixture(scope="module")
def chain(finished_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished workspace for the tests of a module."""
    folder = tmp_path_factory.mktemp("chain") / "workspace"
    return Path(shutil.copytree(finished_workspace, folder, symlinks=True))
