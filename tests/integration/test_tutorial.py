"""The tutorial's notebook, which has the cells of the page, in a new project with fewer steps."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from zreward_core.commands.init import init_project
from zreward_core.config import merge
from zreward_core.schemas import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BIN = Path(sys.executable).parent
SMALL = {
    "world": {
        "size": 80, "held_out": 20, "pretraining_prompts": 80, "held_out_prompts": 12,
        "annotation_prompts": 4, "unlabelled_prompts": 6, "unlabelled_images": 1,
        "generator_train_prompts": 8, "generator_eval_prompts": 4,
    },
    "candidates": {
        "generators": [{
            "path": "data/base_generator/generator", "steps": 2, "guidance": 1.0,
            "size": [32, 32], "annotation": 1, "unlabelled": 1,
        }]
    },
    "base_generator": {"check": {"num_prompts": 2, "num_steps": 2}},
    "train_gdso": {"steps": 1, "pairs_per_step": 2, "group_size": 2},
    "train_risd": {"steps": 2, "batch_size": 8},
    "evaluate": {"num_traces": 1, "num_examples": 1},
    "promote": {"num_resamples": 100},
    "finetune_generator": {
        "steps": 1, "batch_size": 2, "num_steps": 2, "gradient_steps": 1, "gradient_window": 1,
        "watch": {"num_prompts": 2, "every": 1},
    },
    "evaluate_gsb": {"num_steps": 2, "samples": 1},
}  # fmt: skip


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    profile = Path("params/example.yaml")
    profile.write_text(yaml.safe_dump(merge(yaml.safe_load(profile.read_text()), SMALL)))
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ZREWARD_TRACKING": "off"
    }  # fmt: skip
    printed, names = [], {}
    for cell in read_json(Path("tutorial.ipynb"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("!"):
            for line in source.splitlines():
                done = subprocess.run(
                    line[1:], shell=True, env=environment, capture_output=True, text=True
                )
                assert done.returncode == 0, line + done.stdout[-3000:] + done.stderr[-5000:]
                printed.append(done.stdout)
        elif cell["cell_type"] == "code":
            exec(compile(source, "tutorial.ipynb", "exec"), names)
    assert "942" in printed[0] and "out_of_range" in printed[0]
    scores = pd.read_parquet("scores.parquet")
    assert len(scores) == 48 and scores["overall"].between(1, 5).all()
    assert "v3" in Path("comparison.html").read_text()
    audit = Path(".zreward/workspaces/example/data/validate/audit.json")
    people = read_json(audit)["annotators"]
    assert [name for name, row in people.items() if not row["included"]] == ["Emil"]
