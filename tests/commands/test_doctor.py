"""`zreward doctor` on a real registry, with tiny students."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commands.promotion_root import BASE, TRAINED, finished_root, root, train_as_base
from tests.registry.stores import empty_store
from zreward_core.cli import app
from zreward_core.commands.doctor import examine
from zreward_core.commands.promote import promote
from zreward_core.manifest import MANIFEST_TAG, WHOLE
from zreward_core.store import DATABASE, MODEL, artifact, connect

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
