"""A new method is a stage file, its params and an entry in methods.yaml: nothing else is edited."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.stages.training_root import trainable_root
from zreward_core.runtime.progress import read_history

__all__ = ["trainable_root"]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOY = '''"""train_toy: items, base -> a one-token scorer by regression on scores."""

from pathlib import Path

from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.stages import _training as shared
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.samplers import load_labelled
from zreward_core.training.supervised import supervised_steps

BASE = Path("data/base_vlm/student")


class Config(shared.SupervisedConfig):
    """Regression of expected scores."""


def run(config: Config) -> None:
    """Write scorer/ and history.jsonl."""
    items = shared.training_items()
    backbone = load_backbone(BASE)
    checkpoint = Checkpoint("train_toy", config, [BASE, shared.ITEMS_FILE])
    data = load_labelled(backbone, items, "histogram", ImageStore(*shared.IMAGES))

    def squared_error(log_probs, target, mask, num_items):
        gap = expected_score(log_probs.exp() - target, backbone.levels)
        return (gap.square() * mask).sum() / num_items

    history: list[dict[str, float]] = []
    backbone.train_mode(None)
    for step in supervised_steps(
        backbone, "train_toy", len(data.prompts), checkpoint, history, **config.loop
    ):
        step.update(
            one_token_loss(backbone, data, squared_error, 0.0, part, step.batch)
            for part in step.parts()
        )
    folder = Path("data/train_toy/scorer")
    shared.save_trained(folder, config, backbone, history, checkpoint, {"base": BASE})
'''
ENTRY = {
    "model": "train_toy/scorer",
    "cells": {
        "toy": {
            "table": "main",
            "method": "toy",
            "size": "student",
            # the tiny annotations have no validation split
            "params": {"train_toy": {"batch_size": 4}, "predict": {"judged_splits": ["test"]}},
        }
    },
}


@pytest.fixture
def project(trainable_root: Path, tmp_path: Path) -> Path:
    """A copy of the project with tiny bases and annotations."""
    results = ("bases", "cells", "predictions", "images")
    for name, left_out in (("zreward_core", ()), ("benchmarks", results)):
        ignored = shutil.ignore_patterns("__pycache__", *left_out)
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copytree(trainable_root / "data", tmp_path / "data")
    shutil.copyfile(ROOT / "data/rubric.yaml", tmp_path / "data/rubric.yaml")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def execute(*command: str, cwd: Path) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_method_is_a_stage_its_params_and_an_entry(project: Path) -> None:
    (project / "zreward_core/stages/train_toy.py").write_text(TOY)
    params = project / "params.yaml"
    params.write_text(params.read_text() + "\ntrain_toy: {steps: 3}\n")
    methods = project / "benchmarks/methods.yaml"
    described = yaml.safe_load(methods.read_text())
    described["kinds"]["train_toy"] = ENTRY
    described["orderings"].append(["toy", "zero_shot_student"])
    methods.write_text(yaml.safe_dump(described, sort_keys=False))

    execute("python", "benchmarks/generate_dvc.py", cwd=project)
    shutil.copyfile(project / "benchmarks/stages.yaml", project / "benchmarks/dvc.yaml")
    execute("dvc", "init", "--no-scm", "--quiet", cwd=project)
    execute("dvc", "repro", "benchmarks/dvc.yaml:train_toy@toy-17", cwd=project)

    kept = project / "benchmarks/predictions/toy/17"
    assert len(pd.read_parquet(kept / "predictions.parquet")) == 4
    assert read_history(kept / "history.jsonl")[0]["loss/total"] > 0
    deps = yaml.safe_load((project / "benchmarks/dvc.yaml").read_text())["stages"]["train_toy"]
    assert "../zreward_core/stages/train_toy.py" in deps["deps"]
    assert "train_toy" in deps["params"][1]["../params.yaml"]
