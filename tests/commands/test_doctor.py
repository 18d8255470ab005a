"""`zreward doctor` on a real registry, with tiny students."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commands.promotion_root import (
    BASE,
    TRAINED,
    finished_root,
    root,
    train_as_base,
    two_champions,
)
from tests.registry.stores import empty_store
from zreward_core.cli import app
from zreward_core.commands.doctor import examine, registry_findings
from zreward_core.commands.promote import adopt, promote, rollback
from zreward_core.config import UserError
from zreward_core.manifest import MANIFEST_TAG, WHOLE
from zreward_core.registry.versions import all_versions, champion_of, past_champions
from zreward_core.store import ALIAS, DATABASE, MODEL, artifact, connect

__all__ = ["empty_store", "finished_root", "root"]  # fixtures


def problems() -> dict[str, str]:
    found = list(examine())
    assert all(finding.remedy for finding in found)
    assert len({finding.part for finding in found}) == len(found), found
    return {finding.part: finding.problem for finding in found}


def test_an_intact_project_has_no_findings(root: Path) -> None:
    train_as_base()
    promote()
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0 and "intact" in done.stdout, done.stdout


def test_findings_name_the_file_and_the_remedy(root: Path) -> None:
    train_as_base()
    promote()
    client = connect()
    version = client.get_model_version(MODEL, "1")
    code = artifact(client, version, WHOLE) / "student_pyfunc.py"
    kept = code.read_text()

    code.write_text(kept + "\nprint('hello')\n")
    assert "version 1" in problems()["registry"] and "student_pyfunc.py" in problems()["registry"]
    code.write_text(kept)
    client.delete_model_version_tag(MODEL, "1", MANIFEST_TAG)
    assert "no valid tag manifest" in problems()["registry"]
    client.set_model_version_tag(MODEL, "1", MANIFEST_TAG, version.tags[MANIFEST_TAG])

    champion = Path("data/champion.yaml")
    champion.write_text(f"source: models:/{MODEL}/9\nsha256: {'a' * 64}\n")
    assert "models:/zreward-student/9 is not in the registry" in problems()["registry"]
    champion.write_text("source: [")
    assert "data/champion.yaml is not valid YAML" in str(list(examine()))
    champion.write_text("source: trained\n")

    weights = BASE / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"{weights} is not readable" in problems()["models"]
    weights.unlink()
    (TRAINED / "zreward.json").write_text("{")
    assert "zreward.json is not valid JSON" in problems()["models"]
    train_as_base()
    (TRAINED / "training_args.bin").write_bytes(b"x")
    assert "training_args.bin may be a pickle" in problems()["models"]
    (TRAINED / "training_args.bin").unlink()

    rwlock = Path(".dvc/tmp/rwlock")
    rwlock.parent.mkdir(parents=True)
    Path("dvc.yaml").write_text("stages: {}\n")
    dead = {"pid": os.getpid(), "cmd": "/somewhere/dvc repro slow --force"}
    rwlock.write_text(json.dumps({"write": {str(root / "slow"): dead}, "read": {}}))
    assert "no longer exists" in problems()["locks"]
    rwlock.write_text(json.dumps({"write": {"a": 5}}))
    assert "corrupt" in problems()["locks"]
    rwlock.unlink()
    assert not problems()

    content = DATABASE.read_bytes()
    DATABASE.write_bytes(content[: len(content) // 2])
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert {one["part"] for one in json.loads(done.stdout)} == {"registry"}


def test_an_empty_folder_has_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not list(examine())


def point_alias_to(version: int) -> None:
    """Write the alias into the database; MLflow's interfaces refuse a version that is missing."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("UPDATE registered_model_aliases SET version = ?", (version,))


def test_a_deleted_champion_is_taken_over(root: Path) -> None:
    two_champions()
    client = connect()
    client.set_registered_model_alias(MODEL, ALIAS, "1")
    client.delete_model_version(MODEL, "2")
    (finding,) = registry_findings()
    assert "version 1 was made champion by hand" in finding.problem and "adopt" in finding.remedy
    assert adopt() == {"changed": True, "version": 1, "source": f"models:/{MODEL}/1"}
    assert not list(registry_findings()) and past_champions(client) == ["1", "2", "1"]
    with pytest.raises(UserError, match="no earlier champion"):
        rollback()
    assert promote(force=True, reason="again")["changed"]
    assert rollback()["version"] == 1


@pytest.mark.parametrize("value", ["not json", "5", "{}", '"12"', "[true]", '["a"]', "[" * 999])
def test_a_damaged_history_is_named_and_can_be_removed(root: Path, value: str) -> None:
    train_as_base()
    promote()
    client = connect()
    client.set_registered_model_tag(MODEL, "champions", value)
    (finding,) = registry_findings()
    assert "the tag champions of zreward-student is" in finding.problem
    for command in (adopt, promote, rollback):
        with pytest.raises(UserError, match=r"remove the tag in MLflow .*zreward adopt"):
            command()
    client.delete_registered_model_tag(MODEL, "champions")
    adopt()
    assert past_champions(client) == ["1"] and not list(registry_findings())


def test_an_alias_to_a_version_that_does_not_exist_is_named(root: Path) -> None:
    train_as_base()
    promote()
    point_alias_to(99)
    (finding,) = registry_findings()
    assert "the alias champion of zreward-student points to version 99" in finding.problem
    for command in (adopt, promote, rollback):
        with pytest.raises(UserError, match="points to version 99, which does not exist"):
            command()
    connect().set_registered_model_alias(MODEL, ALIAS, "1")
    assert adopt()["version"] == 1 and not list(registry_findings())


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("gate.difference", "abc"),
        ("gate.low", None),
        ("gate.high", "nan"),
        ("gate.passed", "maybe"),
        ("gate.reason", None),
    ],
)
def test_an_unreadable_verdict_is_judged_again(root: Path, tag: str, value: str | None) -> None:
    assert not promote()["passed"]
    client = connect()
    version, base = all_versions(client)[1], champion_of(client)
    assert base is not None and version.version != base.version
    kept = version.tags[tag]
    if value is None:
        client.delete_model_version_tag(MODEL, version.version, tag)
    else:
        client.set_model_version_tag(MODEL, version.version, tag, value)
    (finding,) = registry_findings()
    assert f"version {version.version}: the gate's verdict" in finding.problem
    assert not promote()["passed"] and not list(registry_findings())
    assert tag in client.get_model_version(MODEL, version.version).tags and kept


@pytest.mark.parametrize(
    "manifest", ["not json", "5", '{"files": [["a", "b"]]}', '{"files": {}, "hub": 5}']
)
def test_a_damaged_manifest_is_a_finding(root: Path, manifest: str) -> None:
    train_as_base()
    promote()
    connect().set_model_version_tag(MODEL, "1", MANIFEST_TAG, manifest)
    (finding,) = registry_findings()
    assert "version 1" in finding.problem and "no valid tag manifest" in finding.problem


def test_a_version_whose_location_is_gone_is_a_finding(root: Path) -> None:
    train_as_base()
    promote()
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("UPDATE model_versions SET storage_location = 'models:/m-gone'")
    (finding,) = registry_findings()
    assert "version 1: the MLflow store failed" in finding.problem
