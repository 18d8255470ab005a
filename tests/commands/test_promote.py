"""Promotion, rollback and adoption on a real registry, with tiny students."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.commands.promotion_root import (
    BASE,
    NORM,
    TRAINED,
    finished_root,
    make_student,
    root,
    spoil,
    train_as_base,
    two_champions,
)
from tests.registry.stores import empty_store
from zreward_core import RewardModel
from zreward_core.cli import app
from zreward_core.commands import gate
from zreward_core.commands.promote import adopt, promote, rollback
from zreward_core.config import UserError
from zreward_core.manifest import FOLDER, MANIFEST_TAG, WHOLE, manifest_of
from zreward_core.registry.sync import sync
from zreward_core.registry.versions import all_versions, champion_of
from zreward_core.schemas import (
    ITEMS,
    NotFinite,
    file_hashes,
    read_table,
    tree_hash,
    write_table,
)
from zreward_core.stages import champion
from zreward_core.store import (
    ALIAS,
    DATABASE,
    MODEL,
    artifact,
    checked,
    connect,
    fetch,
)

__all__ = ["empty_store", "finished_root", "root"]  # fixtures
URI = f"models:/{MODEL}@{ALIAS}"


def chosen() -> dict[str, str]:
    return yaml.safe_load(Path("data/champion.yaml").read_text())


def test_a_candidate_that_is_not_worse_is_promoted_once(root: Path) -> None:
    train_as_base()
    result = promote()
    assert result["passed"] and result["promoted"] and result["changed"]
    assert (result["version"], result["champion_version"]) == (1, 1)
    assert (result["difference"], result["low"], result["high"]) == (0.0, 0.0, 0.0)
    assert result["margin"] == 0.02
    assert chosen() == {"source": "trained"}
    assert json.loads(Path("reports/promotion.json").read_text()) == result
    again = promote()
    assert not again["changed"] and again["passed"] and again["low"] == 0.0
    (version,) = all_versions(connect())
    assert version.tags["sha256"] == tree_hash(TRAINED)
    assert version.tags["gate.passed"] == "true" and version.tags["gate.champion"] == str(BASE)


def test_without_changes_torch_is_not_imported(root: Path) -> None:
    train_as_base()
    promote()
    code = (
        "import sys; from zreward_core.commands.promote import promote;"
        "print(promote()['changed'], {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False set()", done.stderr


def test_the_first_candidate_that_is_worse_leaves_the_base_champion(root: Path) -> None:
    result = promote()
    assert not result["passed"] and not result["promoted"]
    assert result["low"] < -0.02 and "below -0.02" in result["reason"]
    assert "HPA of candidate minus its base (data/base_vlm/student) on" in result["reason"]
    base = champion_of(connect())
    assert base is not None and base.tags["sha256"] == tree_hash(BASE)
    assert chosen() == {"source": f"models:/{MODEL}/{base.version}", "sha256": tree_hash(BASE)}
    champion.run(champion.Config(seed=5))
    assert tree_hash(champion.OUTPUT / "student") == tree_hash(BASE)
    assert not promote()["changed"]


def test_blocked_ends_with_exit_code_1_and_forced_with_0(root: Path) -> None:
    runner = CliRunner()
    blocked = runner.invoke(app, ["promote", "--json"])
    assert blocked.exit_code == 1 and json.loads(blocked.stdout)["promoted"] is False
    assert runner.invoke(app, ["promote"]).exit_code == 1
    with pytest.raises(UserError, match="--reason"):
        promote(force=True, reason=" ")
    forced = runner.invoke(app, ["promote", "--force", "--reason", "it is pretty", "--json"])
    assert forced.exit_code == 0 and json.loads(forced.stdout)["promoted"] is True
    version = champion_of(connect())
    assert version is not None and version.tags["gate.forced"] == "it is pretty"
    assert version.tags["gate.passed"] == "false"
    assert chosen() == {"source": "trained"}


def test_a_rollback_is_not_undone_by_promote(root: Path) -> None:
    first, _ = two_champions()
    second = champion_of(connect())
    assert second is not None and "minus champion (version 1) on" in second.tags["gate.reason"]
    assert rollback() == {"changed": True, "version": 1, "source": f"models:/{MODEL}/1"}
    assert chosen() == {"source": f"models:/{MODEL}/1", "sha256": first}
    kept = promote()
    assert (kept["champion_version"], kept["promoted"], kept["changed"]) == (1, False, False)
    assert "rolled back" in kept["reason"]
    champion.run(champion.Config(seed=5))
    assert tree_hash(champion.OUTPUT / "student") == first
    assert promote(force=True, reason="after all")["champion_version"] == 2
    with pytest.raises(UserError, match="no earlier champion"):
        for _ in range(3):
            rollback()


def test_an_alias_moved_by_hand_is_adopted_and_not_undone(root: Path) -> None:
    first, _ = two_champions()
    client = connect()
    assert adopt() == {"changed": False, "version": 2, "source": "trained"}
    client.set_registered_model_alias(MODEL, ALIAS, "1")
    assert adopt() == {"changed": True, "version": 1, "source": f"models:/{MODEL}/1"}
    assert chosen()["sha256"] == first
    assert not adopt()["changed"]
    assert promote()["champion_version"] == 1
    client.set_registered_model_alias(MODEL, ALIAS, "2")
    assert adopt() == {"changed": True, "version": 2, "source": "trained"}
    assert promote()["champion_version"] == 2


def test_training_another_student_keeps_the_champion_in_use(root: Path) -> None:
    train_as_base()
    promote()
    champion.run(champion.Config(seed=5))
    in_use = champion.OUTPUT / "student"
    make_student(TRAINED, seed=8)
    assert adopt() == {"changed": False, "version": 1, "source": f"models:/{MODEL}/1"}
    assert chosen()["sha256"] == tree_hash(in_use)
    Path("data/champion.yaml").write_text("source: trained\n")  # as an old commit has it
    make_student(in_use, seed=8)
    assert adopt() == {"changed": True, "version": 1, "source": f"models:/{MODEL}/1"}


def test_scores_of_a_version_are_bit_identical_to_its_folder(root: Path) -> None:
    train_as_base()
    promote()
    pixels = [np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)]
    expected = RewardModel.from_pretrained(TRAINED).score(["a red circle"], pixels)
    for uri in (URI, f"models:/{MODEL}/1"):
        found = RewardModel.from_pretrained(uri).score(["a red circle"], pixels)
        assert torch.equal(found.probs, expected.probs) and torch.equal(found.mass, expected.mass)


def harm_version(harm: str, part: str = WHOLE) -> None:
    """Change, add or remove a file of version 1."""
    client = connect()
    folder = artifact(client, client.get_model_version(MODEL, "1"), part)
    if harm == "add":
        (folder / "more.txt").write_text("more")
    elif harm == "pickle":
        (folder / "more.json").write_bytes(b"\x80\x04K\x01.")
    elif harm == "remove":
        (folder / "model.safetensors").unlink()
    else:
        path = folder / harm
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


@pytest.mark.parametrize("harm", ["model.safetensors", "add", "remove"])
def test_files_that_differ_from_the_manifest_are_not_loaded(root: Path, harm: str) -> None:
    train_as_base()
    promote()
    harm_version(harm, FOLDER)
    with pytest.raises(UserError, match="differ from the registered manifest"):
        fetch(URI)
    make_student(TRAINED, seed=0)  # the gate cannot load the champion and fails
    result = promote()
    assert not result["passed"] and "could not be loaded" in result["reason"]
    assert result["champion_version"] == 1


def test_every_file_of_a_version_is_compared_with_its_tag_before_loading(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_as_base()
    promote()
    client = connect()
    version = client.get_model_version(MODEL, "1")
    folder = artifact(client, version, WHOLE)
    assert manifest_of(version)["files"] == file_hashes(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.pyfunc.load_model(URI)
    checked(client, version, WHOLE)  # without the bytecode that loading wrote
    for name in ("MLmodel", "student_pyfunc.py", "artifacts/lineage/rows.parquet"):
        kept = (folder / name).read_bytes()
        harm_version(name)
        with pytest.raises(UserError, match=name):
            checked(client, version, WHOLE)
        if name.startswith("artifacts"):
            with pytest.raises(UserError, match=name):
                mlflow.pyfunc.load_model(URI)
        (folder / name).write_bytes(kept)
    client.delete_model_version_tag(MODEL, "1", MANIFEST_TAG)
    for load in (fetch, mlflow.pyfunc.load_model):
        with pytest.raises(UserError, match="no valid tag manifest"):
            load(URI)
    assert promote()["version"] == 2  # registered again, with a manifest


def test_pickles_are_not_registered(root: Path) -> None:
    train_as_base()
    for name, content in (("model.bin", b"weights"), ("x.json", b"\x80\x04K\x01.")):
        (TRAINED / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} may be a pickle"):
            promote()
        (TRAINED / name).unlink()
    assert not all_versions(connect())


def test_a_copy_of_the_project_is_complete(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_champions()
    copy = root.parent / "a copy"
    shutil.copytree(root, copy)
    shutil.rmtree(root)
    monkeypatch.chdir(copy)
    assert tree_hash(fetch(URI)) == second and fetch(URI).is_relative_to(copy)
    assert rollback()["version"] == 1
    assert tree_hash(fetch(URI)) == first
    assert list(sync()) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy / DATABASE}")
    assert mlflow.pyfunc.load_model(URI).unwrap_python_model().scorer.model.dimensions
    monkeypatch.chdir(root.parent)
    assert tree_hash(fetch(URI)) == first  # relative to the project, not to the current folder


def test_two_promotions_at_once_register_one_version(root: Path) -> None:
    train_as_base()
    shutil.rmtree(".zreward")
    command = [sys.executable, "-m", "zreward_core", "promote", "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(result["changed"] for result in results) == [False, True]
    assert len(all_versions(connect())) == 1


def test_rollback_skips_deleted_and_damaged_versions(root: Path) -> None:
    two_champions()
    harm_version("model.safetensors", FOLDER)
    with pytest.raises(UserError, match="differ from the registered manifest"):
        rollback()
    assert int(champion_of(connect()).version) == 2
    connect().delete_model_version(MODEL, "1")
    with pytest.raises(UserError, match="no earlier champion"):
        rollback()


def test_a_too_long_test_prompt_costs_its_pairs(root: Path) -> None:
    train_as_base()
    items = read_table(gate.ITEMS_FILE, ITEMS)
    long = items["prompt_id"] == items["prompt_id"].iloc[0]
    prompts = items["prompt"].mask(long, "red " * 3000)
    write_table(items.assign(prompt=prompts), gate.ITEMS_FILE, ITEMS)
    result = promote()
    assert result["passed"] and result["promoted"]
    assert "on 84 test pairs" in result["reason"]
    assert "12 test pairs were left out, their prompts are too long" in result["reason"]


def test_a_candidate_that_cannot_be_loaded_fails_the_gate(root: Path) -> None:
    (TRAINED / "model.safetensors").write_bytes(b"no weights")
    result = promote()
    assert not result["passed"] and "could not be loaded" in result["reason"]
    assert result["difference"] is None and not result["promoted"]


def test_a_wrong_hash_in_the_champion_file_is_rejected(root: Path) -> None:
    train_as_base()
    promote()
    Path("data/champion.yaml").write_text(f"source: models:/{MODEL}/1\nsha256: {'a' * 64}\n")
    with pytest.raises(UserError, match="it is another student"):
        champion.run(champion.Config(seed=5))
    assert not champion.OUTPUT.exists()


@pytest.mark.parametrize(
    "content",
    [{"source": "untrained"}, {"source": f"models:/{MODEL}/1"}, {"source": "trained", "x": 1}],
)
def test_malformed_champion_files_are_rejected(root: Path, content: dict) -> None:
    with pytest.raises(UserError, match=r"champion\.yaml"):
        champion.chosen_folder(content)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/zreward-student", "not the URI of a version"),
        ("models:/zreward-student/x", "not the URI of a version"),
        ("models:/zreward-student/9", "not in the registry"),
        ("models:/zreward-student@nobody", "not in the registry"),
    ],
)
def test_unknown_versions_raise_a_user_error(root: Path, uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fetch(uri)


def test_without_a_registry_the_error_names_the_command(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="zreward promote"):
        RewardModel.from_pretrained(URI)
    assert not list(tmp_path.iterdir())


def test_without_a_trained_student_the_error_names_the_command(root: Path) -> None:
    shutil.rmtree(TRAINED)
    with pytest.raises(UserError, match="dvc repro evaluate"):
        promote()


def test_a_student_with_nan_weights_is_not_registered_even_by_force(root: Path) -> None:
    train_as_base()
    spoil(TRAINED, np.nan)
    Path("params.yaml").write_text("seed: 5\npromote: {margin: 1.0, num_resamples: 200}\n")
    for arguments in ({}, {"force": True, "reason": "it is pretty"}):
        with pytest.raises(NotFinite, match=rf"train_risd/student: the weight {NORM}"):
            promote(**arguments)
    assert not all_versions(connect()) and chosen() == {"source": "trained"}


def test_a_student_whose_scores_are_not_finite_is_not_promoted_even_by_force(root: Path) -> None:
    train_as_base()
    spoil(TRAINED, 3e38)  # finite; the logits overflow
    Path("params.yaml").write_text("seed: 5\npromote: {margin: 1.0, num_resamples: 200}\n")
    for arguments in ({}, {"force": True, "reason": "it is pretty"}):
        with pytest.raises(NotFinite, match="is not finite"):
            promote(**arguments)
    assert champion_of(connect()) is None


def test_a_champion_whose_scores_are_not_finite_can_be_replaced(root: Path) -> None:
    make_student(TRAINED, seed=1)
    promote(force=True, reason="first")
    test = gate.read_test_set()
    cached = gate.SCORES / f"{tree_hash(TRAINED)}-{test.key}-float32.parquet"
    gate.score_items(TRAINED, tree_hash(TRAINED), test)
    table = pd.read_parquet(cached)
    table.assign(value=np.nan).to_parquet(cached)  # as it was promoted by an earlier version
    train_as_base()
    result = promote()
    assert not result["passed"] and "the champion is not usable" in result["reason"]
    assert promote(force=True, reason="the other one is broken")["promoted"]
