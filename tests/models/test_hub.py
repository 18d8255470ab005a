"""Publishing models on a hub and loading them, by huggingface_hub and a local server."""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants

from tests.models.hub_server import Hub, free_port, hub_server, point_to
from tests.servers import wait_for
from zreward_core import RewardModel, TeacherJudge
from zreward_core.config import UserError
from zreward_core.evaluation.preference import MARGIN
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import card
from zreward_core.schemas import tree_hash, write_json

ID = "team/my-reward"


@pytest.fixture(scope="module")
def student(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "student"
    backbone.save(folder, {"stage": "train_risd", "labels": "ab" * 32})
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of its own for each test, with an empty cache of downloads."""
    monkeypatch.chdir(tmp_path)
    with hub_server() as (address, served):
        point_to(address, tmp_path / "cache", monkeypatch)
        yield served


def test_a_published_model_has_the_same_files_and_scores(
    hub: Hub, student: Path, images: list[np.ndarray]
) -> None:
    model = RewardModel.from_pretrained(student)
    first = model.push_to_hub(ID)
    found = RewardModel.from_pretrained(ID)
    assert tree_hash(Path(found.backbone.source)) == tree_hash(student)
    expected = model.score("a red circle", images[:2])
    assert torch.equal(found.score("a red circle", images[:2]).probs, expected.probs)

    (other := Path("other")).mkdir()
    shutil.copytree(student, other, dirs_exist_ok=True)
    content = json.loads((other / "zreward.json").read_text())
    content["lineage"]["labels"] = "cd" * 32
    write_json(content, other / "zreward.json")
    second = RewardModel.from_pretrained(other).push_to_hub(ID)
    assert first != second and len(hub.commits[ID]) == 2

    def labels(revision: str | None) -> str:
        source = RewardModel.from_pretrained(ID, revision=revision).backbone.source
        return json.loads((Path(source) / "zreward.json").read_text())["lineage"]["labels"]

    assert [labels(revision) for revision in (first, second, None)] == [
        "ab" * 32, "cd" * 32, "cd" * 32,
    ]  # fmt: skip
    assert not [path for path in hub.downloads if path.endswith((".bin", ".pkl", ".md"))]


def test_only_files_of_a_model_are_uploaded_and_downloaded(hub: Hub, student: Path) -> None:
    folder = Path("student")
    shutil.copytree(student, folder)
    (folder / "optimizer.bin").write_bytes(b"\x80\x04")
    (folder / "part").mkdir()
    (folder / "part/part.json").write_text("{}")
    RewardModel.from_pretrained(folder).push_to_hub(ID)
    files = hub.commits[ID][-1][1]
    assert set(files) == {path.name for path in student.iterdir()} | {
        "README.md",
        "part/part.json",
    }
    files["model.pkl"] = b"\x80\x04"
    source = Path(RewardModel.from_pretrained(ID).backbone.source)
    assert (source / "part/part.json").is_file()
    assert "model.pkl" not in hub.downloads


def test_the_card_has_rubric_figures_and_hashes(hub: Hub, student: Path) -> None:
    row = {"hpa": 0.8, "hpa_low": 0.75, "hpa_high": 0.85, "plcc": 0.7, "srcc": None}
    metrics = {
        "models": {"student": {"overall": row, "charm": row}, "teacher": {"overall": row}},
        "reference": {"oracle": {"overall": row | {"hpa": 0.9}}},
    }
    model = RewardModel.from_pretrained(student)
    model.push_to_hub(ID, metrics=metrics, license_id="apache-2.0")
    text = hub.commits[ID][-1][1]["README.md"].decode()
    parsed = ModelCard(text)
    assert parsed.data.license == "apache-2.0" and "reward-model" in (parsed.data.tags or [])
    assert f'RewardModel.from_pretrained("{ID}")' in text
    assert "| charm | how is charm |" in text and "from 1 to 4" in text
    assert "| this student | charm | 0.800 [0.750, 0.850] |  | 0.700 |  |  |" in text
    assert "| pixel oracle (ceiling) | overall | 0.900 [" in text
    assert MARGIN == 0.5 and "margin HPA counts pairs more than half a point apart" in text
    assert f"| labels | {'ab' * 32} |" in text
    assert f"| rubric | {model.backbone.rubric.sha256} |" in text
    assert f"| this model | {tree_hash(student)} |" in text
    assert "HackingMonitor" in text and "2606.09076" in text


def test_a_model_made_in_memory_is_published(hub: Hub, backbone: Backbone) -> None:
    TeacherJudge(copy.deepcopy(backbone)).push_to_hub(ID)
    text = hub.commits[ID][-1][1]["README.md"].decode()
    assert "No evaluation was given" in text and "TeacherJudge.from_pretrained" in text
    assert TeacherJudge.from_pretrained(ID).dimensions == backbone.rubric.names


def test_the_files_of_a_model_are_published_from_another_folder(
    hub: Hub, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the weights in memory, which have no lineage, and another precision here."""
    monkeypatch.chdir(student.parent)
    model = RewardModel.from_pretrained(student.name).to("cpu", "bfloat16")
    monkeypatch.chdir(tmp_path)
    model.push_to_hub(ID)
    files = hub.commits[ID][-1][1]
    for name in ("zreward.json", "model.safetensors"):
        assert files[name] == (student / name).read_bytes()
    shutil.copytree(student, tmp_path / "gone")
    model = RewardModel.from_pretrained("gone")
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(UserError, match="gone"):
        model.push_to_hub(ID)


def test_a_missing_repository_or_revision_is_named(hub: Hub, student: Path) -> None:
    with pytest.raises(UserError, match="team/absent at main: the hub refuses it"):
        RewardModel.from_pretrained("team/absent")
    RewardModel.from_pretrained(student).push_to_hub(ID)
    with pytest.raises(UserError, match="my-reward at v9: the hub refuses it"):
        RewardModel.from_pretrained(ID, revision="v9")
    with pytest.raises(UserError, match="the hub refuses it"):
        RewardModel.from_pretrained(student).push_to_hub("not a/valid name")


def test_without_a_hub_the_copy_on_this_machine_is_used(
    hub: Hub, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RewardModel.from_pretrained(student).push_to_hub(ID)
    expected = RewardModel.from_pretrained(ID).backbone.source
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert RewardModel.from_pretrained(ID).backbone.source == expected
    with pytest.raises(UserError, match="team/other at main is neither a folder nor a copy"):
        RewardModel.from_pretrained("team/other")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        RewardModel.from_pretrained(student).push_to_hub(ID)


def test_a_reference_to_another_checkpoint_is_not_published(
    hub: Hub, student: Path, backbone: Backbone
) -> None:
    folder = Path("pointer")
    folder.mkdir()
    content = card(backbone.rubric, backbone.prompt, None, {})
    write_json(
        content | {"path": str(student), "sha256": tree_hash(student)}, folder / "zreward.json"
    )
    with pytest.raises(UserError, match="pointer holds no weights, it refers to"):
        RewardModel.from_pretrained(folder).push_to_hub(ID)
    assert hub.commits == {}


@pytest.mark.skipif(
    not (shutil.which("olah-cli") and shutil.which("git")),
    reason="needs git and the hub mirror olah (`pip install olah` in an environment of its own,"
    " whose bin is in PATH)",
)
def test_a_model_is_loaded_from_another_hub_server(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[np.ndarray]
) -> None:
    """Olah serves git repositories over the hub's API."""
    repository = tmp_path / "repositories/models" / ID
    shutil.copytree(student, repository)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        command = ["git", "-C", str(repository), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-b", "main")
    git("add", "-A")
    git("commit", "-m", "a model")
    git("tag", "v1")
    port = free_port()
    nowhere, here = "127.0.0.1:9", f"127.0.0.1:{port}"
    (tmp_path / "olah.toml").write_text(
        f"""[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{tmp_path / "cached"}"
hf-scheme = "http"
hf-netloc = "{nowhere}"
hf-lfs-netloc = "{nowhere}"
mirror-netloc = "{here}"
mirror-lfs-netloc = "{here}"
mirrors-path = ["{tmp_path / "repositories"}"]
[accessibility]
offline = true
"""
    )
    command = ["olah-cli", "-c", "olah.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=clean_environment()) as process:
        try:
            wait_for(f"http://{here}/api/models/{ID}/revision/main", process, 120)
            point_to(f"http://{here}", tmp_path / "cache", monkeypatch)
            model = RewardModel.from_pretrained(student)
            expected = model.score("a red circle", images[0]).probs
            for revision in (None, "v1", git("rev-parse", "HEAD")):
                found = RewardModel.from_pretrained(ID, revision=revision)
                assert torch.equal(found.score("a red circle", images[0]).probs, expected)
            for source, revision in (("team/absent", None), (ID, "v9")):
                with pytest.raises(UserError, match="the hub refuses it"):
                    RewardModel.from_pretrained(source, revision=revision)
            with pytest.raises(UserError, match="the hub refuses it"):
                model.push_to_hub(ID)  # a mirror is read-only
        finally:
            process.terminate()


def clean_environment() -> dict[str, str]:
    """Without the path of this project's packages: Olah has an environment of its own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
