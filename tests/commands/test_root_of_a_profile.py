"""The commands in a profile's comments run in its workspace, and not in the project."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.integration.smoke import ROOT, execute
from tests.stages.annotation_root import make_root
from zreward_core.config import UserError
from zreward_core.runtime.workspace import make_workspace
from zreward_core.stages import ingest

PROFILE = "eight_gpus"


def commands(file: Path) -> list[str]:
    """The commands in the comments at the top of a profile."""
    return re.findall(r"^# +(zreward --root .*)$", file.read_text(), re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the demo has made its candidates."""
    folder = tmp_path / "a project"
    make_root(folder, num_prompts=12, num_images=2)
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("params.yaml", "launch.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("zreward_core", "data/bases", "data/drops"):
        (folder / name).mkdir()
    shutil.copyfile(ROOT / "data/champion.yaml", folder / "data/champion.yaml")
    file = folder / f"params/{PROFILE}.yaml"
    file.write_text(file.read_text().replace("revision: main", f"revision: {'0a' * 20}"))
    monkeypatch.chdir(folder)
    return folder


def test_people_get_the_images_of_the_profile(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(PROFILE).resolve()
    make_root(tmp_path / "other", num_prompts=3, num_images=4)
    shutil.copytree(tmp_path / "other/data/candidates", workspace / "data/candidates")
    listed = commands(Path(f"params/{PROFILE}.yaml"))
    assert [line.split(')" ')[1].split()[:2] for line in listed] == [
        *(["annotate", "export"], ["annotate", "push"], ["annotate", "pull"]),
        *(["gsb", "export"], ["annotate", "push"], ["annotate", "pull"], ["gsb", "import"]),
    ]
    done = execute("bash", "-c", listed[0], cwd=project)
    assert done.returncode == 0, done.stderr
    assert "3 prompts with 12 images" in done.stdout
    assert len(list((workspace / "annotation_project/images").iterdir())) == 12
    assert not (project / "annotation_project").exists()
    tasks = json.loads((workspace / "annotation_project/tasks/annotator-01.json").read_text())
    assert all(len(task["data"]["images"]) == 1 for task in tasks)
    monkeypatch.chdir(workspace)
    with pytest.raises(UserError, match=f"zreward --root '{workspace}' annotate export"):
        ingest.run(ingest.Config.load("ingest"))


def test_pulled_annotations_reach_the_workspace(project: Path) -> None:
    pull = commands(Path(f"params/{PROFILE}.yaml"))[2]
    (output,) = re.findall(r'--output "\$PWD/(.+)"', pull)
    sources = ingest.Config.load("ingest", Path(f"params/{PROFILE}.yaml")).sources
    assert [str(source.path) for source in sources] == [output]
    (project / output).mkdir(parents=True)
    (project / output / "annotator-01.json").write_text("[]")
    assert (make_workspace(PROFILE) / output / "annotator-01.json").is_file()
