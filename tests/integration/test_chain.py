"""The whole chain on the smoke profile, in a temporary copy of the project, by `dvc repro`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from zreward_core.evaluation.claims import judge_claims

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def execute(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def repro(workspace: Path) -> str:
    done = execute("dvc", "repro", "dvc.yaml", cwd=workspace)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", ".dvcignore", "params.yaml", "params", "zreward_core", "benchmarks"):
        if (ROOT / name).is_dir():
            kept_out = shutil.ignore_patterns("cells", "predictions")
            shutil.copytree(ROOT / name, project / name, ignore=kept_out)
        else:
            shutil.copyfile(ROOT / name, project / name)
    (project / "data/drops").mkdir(parents=True)
    for name in ("rubric.yaml", "champion.yaml"):
        shutil.copyfile(ROOT / "data" / name, project / "data" / name)
    made = execute("zreward", "workspace", "smoke", cwd=project)
    assert made.returncode == 0, made.stderr
    return project / made.stdout.strip()


@pytest.fixture(scope="module")
def chain(workspace: Path) -> Path:
    repro(workspace)
    return workspace


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_every_stage_wrote_its_folder(chain: Path) -> None:
    for stage in yaml.safe_load((chain / "dvc.yaml").read_text())["stages"]:
        assert (chain / "data" / stage / "config.json").is_file(), stage


def test_second_run_does_nothing(chain: Path) -> None:
    assert "up to date" in repro(chain)


def test_metrics_have_the_promised_fields(chain: Path) -> None:
    metrics = read(chain / "data/evaluate/metrics.json")
    models = {"zero_shot", "zero_shot_reasoning", "teacher", "student"}
    assert set(metrics["models"]) == models
    fields = {"hpa", "hpa_low", "hpa_high", "margin_hpa", "plcc", "srcc", "nll", "ece"}
    for model in models:
        for part in ("overall", "alignment", "realism", "aesthetics", "plausibility"):
            assert fields | {"num_pairs", "output_tokens"} <= set(metrics["models"][model][part])
    assert metrics["models"]["student"]["overall"]["output_tokens"] == 1
    assert metrics["models"]["teacher"]["overall"]["output_tokens"] > 1
    assert set(metrics["differences"]) == {
        "teacher-zero_shot_reasoning",
        "student-zero_shot",
        "teacher-student",
    }
    assert set(metrics["reference"]) == {"annotator_agreement", "oracle"}
    tuning = read(chain / "data/finetune_generator/metrics.json")
    assert {"reward", "panel"} <= set(tuning)
    assert set(read(chain / "data/evaluate_gsb/gsb.json")["overall"]) == {
        "good",
        "same",
        "bad",
        "gsb",
        "low",
        "high",
    }
    assert set(read(chain / "data/validate/audit.json")["alpha"]) == {
        "alignment",
        "realism",
        "aesthetics",
        "plausibility",
    }
    bases = read(chain / "data/base_vlm/metrics.json")
    for word in ("fine", "recolored", "whole", "none"):
        assert 0 <= bases["teacher"][f"verdict_{word}"] <= 1
    assert bases["student"]["num_parameters"] <= bases["teacher"]["num_parameters"] / 2


def test_summary_prints_the_table(chain: Path) -> None:
    done = execute("zreward", "summary", cwd=chain)
    assert done.returncode == 0, done.stderr
    assert "student" in done.stdout and "GSB" in done.stdout


def test_score_command(chain: Path) -> None:
    image = chain / "data/world/contact_sheet.png"
    model = str(chain / "data/champion/student")
    done = execute(
        "zreward", "score", "--model", model, "--prompt", "a red circle", str(image), "--json",
        cwd=chain,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["image"] == str(image)
    for value in row["dimensions"].values():
        assert sum(value["probs"]) == pytest.approx(1.0, abs=1e-5)
        assert 1.0 <= value["mean"] <= 5.0 and len(value["probs"]) == 9


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["score", "--model", "data", "--prompt", "a", "data/rubric.yaml"], "not a readable image"),
        (["score", "--model", "data", "--prompt", "a", "nowhere.png"], "nowhere.png not found"),
        (["label", "--params", "nowhere.yaml"], "nowhere.yaml not found"),
        (["workspace", "nowhere"], "no profile"),
        (["--root", "nowhere", "label"], "not a folder"),
    ],
)
def test_faults_of_users_end_with_exit_code_2(
    chain: Path, command: list[str], message: str
) -> None:
    done = execute("zreward", *command, cwd=chain)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_model_folder_without_card(chain: Path) -> None:
    image = str(chain / "data/world/contact_sheet.png")
    done = execute("zreward", "score", "--model", "data", "--prompt", "a", image, cwd=chain)
    assert done.returncode == 2 and "zreward.json" in done.stderr


@pytest.fixture
def stage_output(chain: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    output = chain / "data" / request.param
    kept = chain / f"kept_{request.param}"
    shutil.copytree(output, kept)
    yield output
    shutil.rmtree(output, ignore_errors=True)
    kept.rename(output)


@pytest.mark.parametrize(
    "stage_output", ["base_vlm", "train_gdso", "label", "train_risd", "finetune_generator"],
    indirect=True,
)  # fmt: skip
def test_killed_stage_resumes_to_the_same_result(chain: Path, stage_output: Path) -> None:
    stage = stage_output.name
    before = contents(stage_output)
    shutil.rmtree(stage_output)
    checkpoints = chain / ".zreward/checkpoints"
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["zreward", stage], cwd=chain, env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not list(checkpoints.rglob("*.pt")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    assert killed, "the stage ended before it could be killed"
    assert not stage_output.exists()
    done = execute("zreward", stage, cwd=chain)
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(stage_output) == before
    assert not list(checkpoints.rglob("*.pt"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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
"""A comparison of few methods, those that go on from others among them."""


def test_the_comparison_makes_its_tables_and_leaves_the_main_job_alone(chain: Path) -> None:
    methods = chain / "benchmarks/methods.yaml"
    described = yaml.safe_load(methods.read_text())
    for kind, entry in described["kinds"].items():
        entry["cells"] = {name: entry["cells"][name] for name in BENCH["cells"].get(kind, [])}
    methods.write_text(yaml.safe_dump({**described, "seeds": BENCH["seeds"]}))
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


def test_settings_are_judged_on_the_validation_prompts_and_once(chain: Path) -> None:
    candidates = {"train_sft": [{"base": "student", "steps": 2}, {"base": "student", "steps": 0}]}
    (chain / "benchmarks/settings.yaml").write_text(yaml.safe_dump(candidates))
    said = []
    for _ in range(2):
        done = execute("python", "benchmarks/settings.py", "train_sft", cwd=chain)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
    assert said[0] == said[1] and "base student, steps 2" in said[0]
    rows = read(chain / "benchmarks/settings.json")
    assert [row["params"] for row in rows] == candidates["train_sft"]
    assert rows[0]["nll"] != rows[1]["nll"]
    tried = chain / "benchmarks/cells/settings/train_sft_base-student_steps-0/17"
    judged = set(pd.read_parquet(tried / "data/predict/predictions.parquet")["item_id"])
    items = pd.read_parquet(chain / "data/validate/items.parquet")
    assert judged and judged <= set(items[items["split"] == "validation"]["item_id"])


def test_no_steps_change_nothing_and_claim_nothing(chain: Path) -> None:
    params = chain / "params.yaml"
    kept = params.read_text()
    changed = yaml.safe_load(kept)
    for stage in ("train_gdso", "train_risd", "finetune_generator"):
        changed[stage]["steps"] = 0
    params.write_text(yaml.safe_dump(changed))
    try:
        repro(chain)
        pairs = [
            ("base_vlm/teacher", "train_gdso/teacher"),
            ("base_vlm/student", "train_risd/student"),
            ("base_generator/generator/transformer", "finetune_generator/generator/transformer"),
        ]
        for base, trained in pairs:
            assert_same_weights(chain / "data" / base, chain / "data" / trained)
        metrics = read(chain / "data/evaluate/metrics.json")
        for name in ("teacher-zero_shot_reasoning", "student-zero_shot"):
            difference = metrics["differences"][name]
            assert (difference["hpa"], difference["low"], difference["high"]) == (0, 0, 0)
        tuning = read(chain / "data/finetune_generator/metrics.json")
        for figures in tuning["reward"].values():
            assert figures["after"] == figures["before"]
            assert figures["low"] == figures["high"] == 0
        gsb = read(chain / "data/evaluate_gsb/gsb.json")
        assert gsb["overall"]["gsb"] == 0 and gsb["overall"]["same"] > 0
        claims = judge_claims(metrics, tuning, gsb)
        learned = [claim for claim in claims if "within" not in claim.name]
        assert learned and not any(claim.holds for claim in learned)
    finally:
        params.write_text(kept)


def assert_same_weights(base: Path, trained: Path) -> None:
    files = sorted(base.glob("*.safetensors"))
    assert files
    for file in files:
        old, new = load_file(file), load_file(trained / file.name)
        assert set(old) == set(new)
        assert all(np.array_equal(old[name], new[name]) for name in old)
