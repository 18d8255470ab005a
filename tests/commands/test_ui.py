"""`zreward ui [PROFILE]`: where the servers start, without starting them."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commands.test_score import zreward
from zreward_core.commands.init import init_project
from zreward_core.commands.repro import stage_lock

STAND_IN = """
import json, os, sys
import zreward_core
print(json.dumps([os.getcwd(), __file__, sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ui") / "project"
    init_project(folder)
    (folder / "pipelines/ui.py").write_text(STAND_IN)
    return folder


@pytest.mark.parametrize(
    ("profile", "folder"), [([], "."), (["example"], ".zreward/workspaces/example")]
)
def test_the_servers_start_in_the_folder_of_the_profile(
    project: Path, profile: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZREWARD_UI_TOKEN", "short")  # the servers of the repository refuse it
    done = zreward("ui", *profile, "--mlflow-port", "5055", cwd=project)
    assert done.returncode == 0, done.stderr
    place, module, arguments = json.loads(done.stdout.splitlines()[-1])
    assert Path(place) == project / folder
    assert Path(module) == project / "pipelines/ui.py"
    assert arguments == ["--dagster-port", "3000", "--mlflow-port", "5055"]


def test_a_run_in_progress_is_shown_as_it_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / ".zreward/workspaces/example"
    zreward("workspace", "example", cwd=project)
    (folder / "params.yaml").write_text("seed: 77\n")
    monkeypatch.chdir(folder)
    with stage_lock("label"):
        done = zreward("ui", "example", cwd=project)
    assert done.returncode == 0 and "is in use by stage label (pid" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[0] == str(folder)
    assert (folder / "params.yaml").read_text() == "seed: 77\n"


def test_a_folder_without_pipelines_is_refused(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns("pipelines"))
    done = zreward("ui", cwd=tmp_path / "project")
    assert done.returncode == 2
    assert "run `zreward ui PROFILE` in a project's root" in done.stderr
