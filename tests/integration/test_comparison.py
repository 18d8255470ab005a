"""The comparison of methods on the smoke profile, beside a finished main chain."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.integration.smoke import chain, execute, finished_workspace, read, repro

__all__ = ["chain", "finished_workspace"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

BENCH = {
    "seeds": [1, 2],
    "cells": {
        "predict": ["zero_shot_student"],
        "train_sft": ["sft_student"],
        "train_gdso": ["gdso"],
        "label": ["labels"],
        "train_risd": ["risd", "hard_scores"],
        "students": ["pool_600"],
        "rollouts": ["rollouts_2"],
        "tune": ["through_1"],
    },
}
"""A comparison of a few methods, among them some that use results of others."""


def test_the_comparison_writes_its_tables_and_leaves_the_main_chain_alone(chain: Path) -> None:
    methods = chain / "benchmarks/methods.yaml"
    described = yaml.safe_load(methods.read_text())
    for kind, entry in described["kinds"].items():
        entry["cells"] = {name: entry["cells"][name] for name in BENCH["cells"].get(kind, [])}
    methods.write_text(yaml.safe_dump({**described, "seeds": BENCH["seeds"]}))
    shutil.copyfile(chain / "benchmarks/stages.yaml", chain / "benchmarks/dvc.yaml")
    done = execute("zreward", "repro", "benchmarks/dvc.yaml", cwd=chain)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    rows = json.loads((chain / "benchmarks/results.json").read_text())
    found = {(row["table"], row["method"], row["size"], row["seed"]) for row in rows}
    assert found == {
        *(("main", "zero_shot", "student", seed) for seed in (1, 2)),
        *(("main", "gdso", "teacher", seed) for seed in (1, 2)),
        *(("main", "risd", "student", seed) for seed in (1, 2)),
        *(("main", "sft", "student", seed) for seed in (1, 2)),
        *(("targets", "hard_scores", "student", seed) for seed in (1, 2)),
        *(("pool", "600_images", "student", seed) for seed in (1, 2)),
        *(("rollouts", "2_traces", "teacher", seed) for seed in (1, 2)),
        *(("tuning", "through_1", "student", seed) for seed in (1, 2)),
        ("reference", "annotator_agreement", None, None),
        ("reference", "oracle", None, None),
    }
    fields = {"hpa", "margin_hpa", "plcc", "srcc", "nll", "ece", "output_tokens", "num_pairs"}
    assert all(fields <= set(row) for row in rows if row["table"] != "tuning")
    tuned = next(row for row in rows if row["table"] == "tuning")
    assert {"gsb", "reward_gain", "panel_gain", "steps"} <= set(tuned)
    gdso = [row for row in rows if row["method"] == "gdso"]
    assert gdso[0]["nll"] != gdso[1]["nll"], "seeds do not differ"
    assert all({"trace_share", "kl", "coverage"} <= set(row) for row in gdso)
    report = (chain / "benchmarks/REPORT.md").read_text()
    for line in report.splitlines():
        if line.startswith("!["):
            assert (chain / "benchmarks" / line.split("(")[1].rstrip(")")).is_file(), line
    cell = chain / "benchmarks/cells/risd/1"
    assert (cell / "data/base_vlm").resolve() == (chain / "data/base_vlm").resolve()
    assert read(cell / "data/train_risd/config.json")["seed"] == 1
    shutil.rmtree(chain / "benchmarks/predictions/risd/2")
    again = execute("zreward", "repro", "benchmarks/dvc.yaml", cwd=chain)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "up to date" in repro(chain)


def test_settings_are_evaluated_once_on_the_validation_prompts(chain: Path) -> None:
    candidates = {"train_sft": [{"base": "student", "steps": 2}, {"base": "student", "steps": 0}]}
    (chain / "benchmarks/settings.yaml").write_text(yaml.safe_dump(candidates))
    outputs = []
    for _ in range(2):
        done = execute("python", "benchmarks/settings.py", "train_sft", cwd=chain)
        assert done.returncode == 0, done.stderr[-3000:]
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] and "base student, steps 2" in outputs[0]
    rows = read(chain / "benchmarks/settings.json")
    assert [row["params"] for row in rows] == candidates["train_sft"]
    assert rows[0]["nll"] != rows[1]["nll"]
    tried = chain / "benchmarks/cells/settings/train_sft_base-student_steps-0/17"
    judged = set(pd.read_parquet(tried / "data/predict/predictions.parquet")["item_id"])
    items = pd.read_parquet(chain / "data/validate/items.parquet")
    assert judged and judged <= set(items[items["split"] == "validation"]["item_id"])
