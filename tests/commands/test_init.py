"""`zreward init`: a complete project, that is never overwritten."""

from pathlib import Path

import pytest

from tests.commands.test_score import zreward
from zreward_core.commands.init import PACKAGE, init_project
from zreward_core.config import UserError
from zreward_core.dvc import read_graph
from zreward_core.schemas import read_json, tree_hash

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "a/project"
    assert init_project(folder).kept == []
    return folder


def test_every_dependency_of_the_graph_is_there(project: Path) -> None:
    graph = read_graph(project)
    outs = [out for stage in graph.values() for out in stage.outs]
    for stage in graph.values():
        for dep in stage.deps:
            made = any(f"{dep}/".startswith(f"{out}/") or out.startswith(dep) for out in outs)
            assert made or (project / dep).exists(), dep
            kept = (project / dep).is_dir() and any((project / dep).iterdir())
            assert made or (project / dep).is_file() or kept, dep  # by git, as it has a file
    assert (project / "zreward_core").resolve() == PACKAGE
    assert (project / "pipelines/definitions.py").is_file()
    assert tree_hash(project / "data/bases") == tree_hash(REPOSITORY / "data/bases")
    assert not list((project / "pipelines").rglob("__pycache__"))


def test_the_example_is_read_completely(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZREWARD_TRACKING", "off")
    done = zreward("ingest", "--params", "params/example.yaml", cwd=project)
    assert done.returncode == 0, done.stderr
    found = read_json(project / "data/ingest/summary.json")["sources"]["study"]
    assert found["native"] == 5 * 48 * 4 and found["quarantine"] == {"out_of_range": 1}
    assert found["missing_images"]["number"] == found["without_image"] == 0


def test_a_second_time_adds_what_is_missing_and_replaces_nothing(tmp_path: Path) -> None:
    init_project(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 3\n")
    (tmp_path / "dvc.yaml").unlink()
    (tmp_path / "zreward_core").unlink()
    (tmp_path / "zreward_core").symlink_to("/nowhere")  # cloned from another machine
    again = init_project(tmp_path)
    assert again.new == 1 and again.kept == ["params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == "seed: 3\n"
    assert (tmp_path / "zreward_core").resolve() == PACKAGE


def test_a_git_repository_is_used(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    init_project(tmp_path / "inside")
    assert "no_scm" not in (tmp_path / "inside/.dvc/config").read_text()
    init_project(tmp_path.parent / "outside")
    assert "no_scm = true" in (tmp_path.parent / "outside/.dvc/config").read_text()


def test_refused_folders(tmp_path: Path) -> None:
    (tmp_path / "zreward_core").mkdir()
    with pytest.raises(UserError, match="a checkout is a project already"):
        init_project(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        init_project(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"zreward_core", "file"}
