"""Lineage on a hand-written dvc.lock, and on the files of a real DVC workspace."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from zreward_core.dvc import read_lock
from zreward_core.registry.lineage import capture, upstream, use_of_row, walk

DVC = Path(sys.executable).with_name("dvc")
STUDENT = "data/train_risd/student"
PYTHON = f"{sys.executable} -c"
GRAPH = {
    "ingest": {"cmd": "true", "deps": ["drop.json"], "outs": ["data/ingest"]},
    "validate": {
        "cmd": "true",
        "deps": ["data/ingest/ratings.parquet"],
        "params": ["seed"],
        "outs": ["data/validate"],
    },
    "train_risd": {
        "cmd": "true",
        "deps": ["data/validate/items.parquet"],
        "outs": ["data/train_risd"],
    },
    "elsewhere": {"cmd": "true", "deps": ["drop.json"], "outs": ["data/elsewhere"]},
}


def entry(deps: list[str], outs: list[str]) -> dict:
    return {
        kind: [{"path": path, "md5": path[::-1]} for path in paths]
        for kind, paths in (("deps", deps), ("outs", outs))
    }


def test_upstream_follows_folders_and_files_both_ways() -> None:
    lock = {
        "first": entry([], ["data/first/a.parquet", "data/first/b.parquet"]),
        "second": entry(["data/first"], ["data/second"]),
        "third": entry(["data/second/table.parquet", "data/firstly"], ["data/third"]),
        "aside": entry(["data/first"], ["data/aside"]),
    }
    assert upstream(lock, "data/third/student") == ["third", "second", "first"]
    assert upstream(lock, "data/nowhere") == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lineage")
    for folder in ("data/ingest", "data/validate", STUDENT, "data/elsewhere"):
        (root / folder).mkdir(parents=True)
        (root / folder / "x.txt").write_text(folder)
    (root / "drop.json").write_text("[]")
    (root / "params.yaml").write_text("seed: 5\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": GRAPH}))
    ratings = pd.DataFrame(
        {
            "item_id": ["i", "i", "j", "k"],
            "dimension": "charm",
            "annotator_id": ["1", "2", "1", "1"],
            "row_ref": [f"drop.json#row {n}" for n in range(4)],
        }
    )
    ratings.to_parquet(root / "data/ingest/ratings.parquet")
    items = pd.DataFrame({"item_id": ["i", "j"], "dimension": "charm", "split": ["train", "test"]})
    items.to_parquet(root / "data/validate/items.parquet")
    audit = {"annotators": {"1": {"included": True}, "2": {"included": False}}}
    (root / "data/validate/audit.json").write_text(json.dumps(audit))
    for command in (["init", "--no-scm", "--quiet"], ["commit", "--force", "--quiet"]):
        subprocess.run([DVC, *command], cwd=root, check=True)
    return root


def test_a_version_leads_to_files_and_rows(finished: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    kept = tmp_path / "kept"
    assert capture(Path(STUDENT), kept) == "train_risd"
    assert list(read_lock(kept)) == ["ingest", "train_risd", "validate"]
    uses = [use_of_row(kept, f"drop.json#row {n}") for n in range(5)]
    assert uses == ["train", "unused", "test", "unused", None]

    found = walk(kept, STUDENT)
    assert [one["stage"] for one in found["stages"]] == ["train_risd", "validate", "ingest"]
    assert all(one["matches"] for one in found["stages"])
    assert found["stages"][1]["params"] == {"seed": 5}
    assert list(found["stages"][1]["deps"]) == ["data/ingest/ratings.parquet"]
    (source,) = found["sources"]
    assert (source["file"], source["rows"]) == ("drop.json", 4)

    # Changed outs are still in DVC's cache; a dep that is not an out is not.
    (finished / STUDENT / "x.txt").write_text("changed")
    (finished / "drop.json").write_text("[1]")
    matches = {one["stage"]: one["matches"] for one in walk(kept, STUDENT)["stages"]}
    assert matches == {"train_risd": True, "validate": True, "ingest": False}
    assert capture(Path(STUDENT), tmp_path / "other") is None
    assert walk(tmp_path / "other", STUDENT) == {"stages": [], "sources": []}

    for file in (finished / ".dvc/cache").rglob("*"):
        if file.is_file() and file.read_bytes() == b"data/train_risd/student":
            file.chmod(0o644)
            file.write_text("corrupt")
    matches = {one["stage"]: one["matches"] for one in walk(kept, STUDENT)["stages"]}
    assert not matches["train_risd"]
