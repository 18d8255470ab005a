"""The wheel in an empty environment, away from the repository: score, serve, init, run.

The wheel is built from the files that the Dockerfile copies, with its commands.
"""

import base64
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.commands.test_score import student
from tests.servers import wait_for
from zreward_core import RewardModel, __version__
from zreward_core.extras import EXTRAS
from zreward_core.images import encode_png

__all__ = ["student"]  # fixture
pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]
REPOSITORY = Path(__file__).parents[2]
MAX_PACKAGES = 60
"""Packages of an installation without extras, pip and zreward included; with [pipeline]: 208."""
NO_INDEX = re.compile(r"NewConnectionError|Failed to establish|requirement (torch|hatchling)")
PIXELS = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)


class Installed:
    """An environment, and commands in it that see nothing of the repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        } | {"PATH": f"{root / 'bin'}:/usr/bin:/bin"}
        subprocess.run([sys.executable, "-m", "venv", root], check=True)

    def run(
        self, *command: str | Path, cwd: Path, code: int = 0, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.root / "bin" / command[0], *command[1:]],
            cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def install(self, requirement: str) -> None:
        constraint = ["--constraint", str(REPOSITORY / "constraints.txt")]
        pip("install", *constraint, requirement, program=self.root / "bin/python")


def pip(*arguments: str, program: Path = Path(sys.executable)) -> None:
    """Run pip; skips the test where pip reaches no package index."""
    done = subprocess.run(
        [program, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True
    )
    if done.returncode and (found := NO_INDEX.search(done.stderr)):
        pytest.skip(f"pip reaches no index with torch and hatchling: {found[0]}")
    assert done.returncode == 0, done.stderr


def copied_by_dockerfile(target: Path) -> None:
    """Copy what the first stage of the Dockerfile copies from the repository."""
    for line in (REPOSITORY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line and "/tmp" not in line:
            *sources, place = shlex.split(line)[1:]
            for source in sources:
                name = Path(source).name if place.endswith("/") else place
                if (REPOSITORY / source).is_dir():
                    shutil.copytree(
                        REPOSITORY / source, target / place,
                        ignore=shutil.ignore_patterns("__pycache__"),
                    )  # fmt: skip
                else:
                    shutil.copyfile(REPOSITORY / source, target / name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    copied_by_dockerfile(folder / "source")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(folder / "source"))
    (built,) = folder.glob("*.whl")
    assert built.stat().st_size < 12e6
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = Installed(tmp_path_factory.mktemp("environment") / "venv")
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def expected(student: Path) -> list[dict]:
    return RewardModel.from_pretrained(student).score(["a cat"], [PIXELS]).rows()


def test_an_installation_has_no_package_of_an_extra(installed: Installed, tmp_path: Path) -> None:
    listed = json.loads(installed.run("pip", "list", "--format", "json", cwd=tmp_path).stdout)
    names = {one["name"].lower().replace("-", "_") for one in listed}
    assert not names & {module for modules in EXTRAS.values() for module in modules}
    assert len(names) <= MAX_PACKAGES, sorted(names)
    code = "import importlib.resources as r; print(r.files('zreward_core').joinpath('py.typed'))"
    assert Path(installed.run("python", "-c", code, cwd=tmp_path).stdout.strip()).is_file()
    assert installed.run("zreward", "--version", cwd=tmp_path).stdout == f"zreward {__version__}\n"


def test_it_scores(
    installed: Installed, student: Path, expected: list[dict], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(PIXELS))
    command = ("score", "--model", student, "--prompt", "a cat", "--json", "a.png")
    (found,) = json.loads(installed.run("zreward", *command, cwd=tmp_path).stdout)
    same_scores(found["dimensions"], expected[0])


def test_it_serves(
    installed: Installed, student: Path, expected: list[dict], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    row = {"prompt": "a cat", "image": base64.b64encode(encode_png(PIXELS)).decode()}
    body = json.dumps({"dataframe_records": [row]}).encode()
    address, kind = f"http://127.0.0.1:{port}", {"Content-Type": "application/json"}
    command = [installed.root / "bin/zreward", "serve", student, "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=installed.environment) as process:
        try:
            wait_for(f"{address}/health", process, 240)
            request = urllib.request.Request(f"{address}/invocations", body, kind)
            with urllib.request.urlopen(request, timeout=120) as answer:
                (found,) = json.load(answer)["predictions"]
        finally:
            process.terminate()
    same_scores(found, expected[0])


def test_its_project_runs_with_the_extra(installed: Installed, wheel: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert (
        "pip install 'zreward[pipeline]'"
        in installed.run("zreward", "init", project, cwd=tmp_path).stdout
    )
    refused = installed.run("zreward", "run", "smoke", cwd=project, code=2)
    assert "pip install 'zreward[pipeline]'" in refused.stderr
    installed.install(f"{wheel}[pipeline]")
    installed.run("zreward", "run", "smoke", cwd=project, timeout=3600)
    assert (project / ".zreward/workspaces/smoke/data/evaluate_gsb/gsb.json").is_file()
    load = "from pathlib import Path; from pipelines.definitions import build_definitions as build"
    installed.run("python", "-c", f"{load}; build(Path('.'))", cwd=project)
    assert "world" in installed.run("dvc", "status", "world", cwd=project).stdout


def same_scores(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name]["probs"] == pytest.approx(values["probs"], abs=1e-5)
        assert found[name]["mean"] == pytest.approx(values["mean"], abs=1e-4)
