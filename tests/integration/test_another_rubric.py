"""Another rubric, three dimensions from 1 to 10, other names: the chain runs by params alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
ASPECTS = {"faithfulness": "alignment", "sharpness": "realism", "soundness": "plausibility"}
RUBRIC = {
    "name": "three dimensions from 1 to 10",
    "levels": [float(level) for level in range(1, 11)],
    "labels": list("1234567890"),
    "exemplars": "data/annotate/exemplars",
    "dimensions": [
        {
            "name": name,
            "title": name.capitalize(),
            "question": f"How good is the {name}?",
            "levels": {10.0: "perfect", 1.0: "as bad as can be"},
        }
        for name in ASPECTS
    ],
}


def execute(*command: str, cwd: Path) -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def test_the_chain_follows_the_rubric(tmp_path: Path) -> None:
    for path in ("dvc.yaml", ".dvcignore", "params.yaml", "params", "zreward_core", "data/bases"):
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copyfile
        copy(ROOT / path, tmp_path / path)
    (tmp_path / "data/drops").mkdir(parents=True)
    shutil.copyfile(ROOT / "data/champion.yaml", tmp_path / "data/champion.yaml")
    (tmp_path / "data/rubric.yaml").write_text(yaml.safe_dump(RUBRIC, sort_keys=False))
    smoke = yaml.safe_load((tmp_path / "params/smoke.yaml").read_text())
    for stage in ("base_vlm", "annotate", "evaluate"):
        smoke.setdefault(stage, {})["aspects"] = ASPECTS
    (tmp_path / "params/other.yaml").write_text(yaml.safe_dump(smoke))
    workspace = tmp_path / execute("zreward", "workspace", "other", cwd=tmp_path).strip()
    execute("dvc", "repro", "dvc.yaml", cwd=workspace)

    def read(name: str) -> dict:
        return json.loads((workspace / "data" / name).read_text())

    assert set(read("validate/audit.json")["alpha"]) == set(ASPECTS)
    metrics = read("evaluate/metrics.json")["models"]["student"]
    assert {"overall", *ASPECTS} == set(metrics)
    card = read("champion/student/zreward.json")
    assert card["dimensions"] == list(ASPECTS) and card["levels"] == RUBRIC["levels"]
    assert set(read("finetune_generator/metrics.json")["reward"]) >= set(ASPECTS)
    assert "exemplars" in execute("zreward", "rubric", cwd=workspace)
    page = (workspace / "reports/rubric.html").read_text()
    assert "Faithfulness" in page and page.count("<img") >= 20
    assert (
        "soundness"
        in execute("zreward", "audit", cwd=workspace)
        + (workspace / "reports/audit.html").read_text()
    )
