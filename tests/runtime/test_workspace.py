"""Workspaces of profiles: their launch files."""

import shutil
from pathlib import Path

import pytest
import yaml

from zreward_core.config import UserError
from zreward_core.runtime.launch_settings import launch_file_of
from zreward_core.runtime.workspace import make_workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped profiles and a package of one file."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("params.yaml", "launch.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("zreward_core/x.py", "data/rubric.yaml", "data/champion.yaml", "data/bases/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "data/drops").mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_missing_file_of_the_project_is_named() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match=r"dvc\.yaml not found"):
        make_workspace(None, name="w")


def test_a_standalone_profile_needs_a_launch_file() -> None:
    shutil.copyfile("params/eight_gpus.yaml", "params/mine.yaml")
    command = "cp params/launch/eight_gpus.yaml params/launch/mine.yaml"
    with pytest.raises(UserError, match=f"params/mine.yaml is standalone .*`{command}`"):
        make_workspace("mine")
    assert not Path(".zreward").exists()
    shutil.copyfile("params/launch/eight_gpus.yaml", "params/launch/mine.yaml")
    launchers = yaml.safe_load((make_workspace("mine") / "launch.yaml").read_text())["launchers"]
    assert launchers["gpus"]["processes"] == 8


def test_other_profiles_start_as_the_demo_does() -> None:
    Path("params/mine.yaml").write_text("seed: 2\n")
    assert launch_file_of("mine") == launch_file_of(None) == Path("launch.yaml")
    assert launch_file_of("smoke") == Path("params/launch/smoke.yaml")
