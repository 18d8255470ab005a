"""Workspaces of profiles: their launch files, and the mirror of data/drops."""

import json
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from dvc_objects.fs.system import reflink

from tests.commands.plan_models import MACHINE
from tests.commands.test_repro import start, wait_for
from zreward_core.commands.plan.run import make_plan
from zreward_core.commands.repro import stage_lock
from zreward_core.commands.run import _free_workspace, held
from zreward_core.config import UserError
from zreward_core.runtime.drops import MIRRORED
from zreward_core.runtime.launch_settings import launch_file_of, read_launcher
from zreward_core.runtime.workspace import InUse, make_workspace

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


def drop(name: str, content: str = "x") -> Path:
    path = Path("data/drops") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def files(folder: Path) -> dict[str, str]:
    root = folder / "data/drops"
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_text() for path in found}


def test_a_missing_file_of_the_project_is_named() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match=r"dvc\.yaml not found"):
        make_workspace(None, name="w")


def test_the_demo_and_an_unknown_profile_have_no_workspace() -> None:
    with pytest.raises(UserError, match=r"demo has no workspace: it is params\.yaml itself"):
        make_workspace("demo")
    known = "demo, eight_gpus, full, paper, smoke"
    with pytest.raises(UserError, match=f"no profile 'typo': .* use one of {known}, or write"):
        make_workspace("typo")
    with pytest.raises(UserError, match="no profile 'typo'"):
        make_plan("typo", MACHINE)
    assert not Path(".zreward").exists()


def test_a_workspace_in_use_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = "touch started && while ! test -e go; do sleep 0.1; done && touch out"
    Path("dvc.yaml").write_text(f"stages:\n  slow:\n    cmd: {wait}\n    outs: [out]\n")
    folder = make_workspace("smoke").resolve()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Path("params/smoke.yaml").write_text("seed: 77\n")
    Path("zreward_core/x.py").write_text("changed = True")
    with start(folder, "zreward", "repro") as run:
        try:
            wait_for(lambda: (folder / "started").exists() or run.poll())
            with pytest.raises(InUse, match=r"smoke is in use by stage slow, run by `.*pid \d+\)"):
                make_workspace("smoke")
            assert all(path.read_bytes() == content for path, content in before.items())
        finally:
            (folder / "go").touch()
        assert run.wait(60) == 0
    with monkeypatch.context() as there:
        there.chdir(folder)
        with stage_lock("label"):
            there.chdir(folder.parents[2])
            with pytest.raises(InUse, match=rf"in use by stage label \(pid {os.getpid()}\)"):
                make_workspace("smoke")
    with held(folder), pytest.raises(InUse, match=rf"by zreward run \(pid {os.getpid()}\)"):
        make_workspace("smoke")  # between two of the run's commands no stage is locked
    assert "seed: 77" in (make_workspace("smoke") / "params.yaml").read_text()


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


def test_messages_in_a_workspace_name_the_launch_file_of_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its copy in the workspace is replaced by the next run."""
    monkeypatch.chdir(make_workspace("smoke"))
    Path("launch.yaml").write_text("stages: {train_sft: nothing}")
    for named in ("params/launch/smoke.yaml", "launch.yaml"):
        with pytest.raises(UserError, match=f"^{named}: .* names the launcher 'nothing'"):
            read_launcher("train_sft", ("train_sft",))
        Path(".zreward/launch_file").unlink(missing_ok=True)


def test_a_second_run_of_a_profile_waits(capsys: pytest.CaptureFixture[str]) -> None:
    """As a second run of the demo does."""
    folder = make_workspace("smoke").resolve()
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.enter_context(held(folder))
        said: list[str] = []
        waiting = pool.submit(_free_workspace, "smoke", said.append)
        wait_for(lambda: bool(said) or waiting.done())
        time.sleep(1)
        assert not waiting.done()
        assert said == [f"waiting for zreward run (pid {os.getpid()})"]
        stack.close()
        assert waiting.result(60).resolve() == folder


def test_data_drops_is_mirrored() -> None:
    withdrawn = drop("people/3/ann.json")
    drop("people/bob.json")
    drop("prompts/annotation.txt", "a cat")
    folder = make_workspace("smoke")
    assert files(folder) == files(Path())
    withdrawn.unlink()
    withdrawn.parent.rmdir()
    drop("prompts/annotation.txt", "a dog")
    before = (folder / "data/drops/people/bob.json").stat()
    (folder / "data/drops/people/pulled.json").write_text("of the workspace")
    make_workspace("smoke")
    assert files(folder) == files(Path()) | {"people/pulled.json": "of the workspace"}
    assert not (folder / "data/drops/people/3").exists()
    assert (folder / "data/drops/people/bob.json").stat() == before  # not written again
    assert make_workspace("smoke") and (folder / "data/drops/people/pulled.json").is_file()


def test_images_are_not_stored_twice_and_texts_are_not_shared() -> None:
    image, text = drop("image_folders/own/a.png"), drop("prompts/annotation.txt")
    own = make_workspace("smoke") / "data/drops"
    try:
        reflink("data/rubric.yaml", "cloned")
    except OSError:
        assert image.samefile(own / "image_folders/own/a.png")
    with text.open("a") as file:  # an edit in place
        file.write("y")
    assert (own / "prompts/annotation.txt").read_text() == "x"
    image.unlink()
    drop("image_folders/own/a.png", "another")
    assert (own / "image_folders/own/a.png").read_text() == "x"
    make_workspace("smoke")
    assert (own / "image_folders/own/a.png").read_text() == "another"


def test_a_write_into_the_workspace_does_not_change_the_project(project: Path) -> None:
    """A file that the workspace replaced is the project's again after the next mirroring."""
    image = drop("image_folders/own/a.png")
    folder = make_workspace("smoke")
    (folder / "new").write_text("of the workspace")
    os.replace(folder / "new", folder / "data/drops/image_folders/own/a.png")
    make_workspace("smoke")
    assert image.read_text() == "x" and files(folder) == files(project)


@pytest.mark.parametrize("gone", [False, True])
def test_nothing_outside_of_the_workspace_is_changed(tmp_path: Path, gone: bool) -> None:
    listed = drop("people/ann.json", "project")
    folder = make_workspace("smoke")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "data/drops/people", elsewhere)
    (elsewhere / "ann.json").write_text("elsewhere")
    shutil.rmtree(folder / "data/drops/people")
    (folder / "data/drops/people").symlink_to(elsewhere)
    if gone:
        shutil.rmtree(listed.parent)
    with pytest.raises(UserError, match=r"drops/people leads to .*elsewhere by a symbolic link"):
        make_workspace("smoke")
    assert (elsewhere / "ann.json").read_text() == "elsewhere"


def test_links_of_the_project_are_followed(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.png").write_text("a")
    Path("data/drops/pool").symlink_to(tmp_path / "pool")
    folder = make_workspace("smoke")
    assert files(folder) == {"pool/a.png": "a"}
    Path("data/drops/broken").symlink_to("nowhere")
    with pytest.raises(UserError, match="data/drops/broken is not a file"):
        make_workspace("smoke")


def test_files_of_unknown_origin_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Workspaces were made without the list of the project's files."""
    withdrawn = drop("ann.json")
    folder = make_workspace("smoke")
    withdrawn.unlink()
    (folder / MIRRORED).unlink()
    with caplog.at_level(logging.WARNING):
        make_workspace("smoke")
        make_workspace("smoke")
    assert caplog.text.count("1 in all, such as ann.json: remove those that were withdrawn") == 1
    assert files(folder) == {"ann.json": "x"}
    assert json.loads((folder / MIRRORED).read_text()) == []


def test_a_project_without_drops_is_refused() -> None:
    Path("data/drops").rmdir()
    with pytest.raises(UserError, match="data/drops not found"):
        make_workspace("smoke")
