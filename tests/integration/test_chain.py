"""The whole pipeline on the smoke profile, in a temporary copy of the project, by `dvc repro`."""

import glob
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.integration.smoke import BIN, chain, execute, finished_workspace, read, repro
from tests.viewer_root import compare_with_tables
from zreward_core.evaluation.claims import judge_claims

__all__ = ["chain", "finished_workspace"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SCORE = ["score", "--model", "data/train_risd/student", "--prompt", "a"]


def test_every_stage_wrote_its_folder(chain: Path) -> None:
    for stage in yaml.safe_load((chain / "dvc.yaml").read_text())["stages"]:
        assert (chain / "data" / stage / "config.json").is_file(), stage


def test_second_run_does_nothing(chain: Path) -> None:
    assert "up to date" in repro(chain)


def test_a_run_with_nothing_to_do_prints_times_and_results(chain: Path) -> None:
    done = execute("zreward", "run", cwd=chain)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "everything is up to date" in done.stderr and "stage 1 of" not in done.stderr
    assert "Minutes and peak memory" in done.stdout and "GSB" in done.stdout


def test_metrics_have_the_documented_fields(chain: Path) -> None:
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


def test_the_viewer_has_the_values_of_the_tables(chain: Path) -> None:
    assert compare_with_tables(chain) > 0
    written = (chain / "reports/viewer/index.html").read_bytes()
    shutil.rmtree(chain / "reports/viewer")
    done = execute("zreward", "viewer", cwd=chain)
    page = chain / "reports/viewer/index.html"
    assert done.returncode == 0 and done.stdout == f"{page.resolve()}\n", done.stderr
    assert page.read_bytes() == written


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
        ([*SCORE, "data/rubric.yaml"], "not a readable image"),
        ([*SCORE, "nowhere.png"], "nowhere.png is not found"),
        (["label", "--params", "nowhere.yaml"], "nowhere.yaml not found"),
        (["workspace", "nowhere"], "no profile"),
        (["--root", "nowhere", "label"], "not a folder"),
    ],
)
def test_user_errors_end_with_exit_code_2(chain: Path, command: list[str], message: str) -> None:
    done = execute("zreward", *command, cwd=chain)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_model_folder_without_card(chain: Path) -> None:
    image = str(chain / "data/world/contact_sheet.png")
    done = execute("zreward", "score", "--model", "data", "--prompt", "a", image, cwd=chain)
    assert done.returncode == 2 and "zreward.json" in done.stderr


SCORE = ["score", "--model", "data/train_risd/student", "--prompt", "a"]


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
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ZREWARD_TRACKING": "off"
    }  # fmt: skip
    process = subprocess.Popen(
        ["zreward", stage], cwd=chain, env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not saved(checkpoints) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    assert killed, "the stage ended before it could be killed"
    assert not stage_output.exists()
    done = execute("zreward", stage, cwd=chain)
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(stage_output) == before
    assert not saved(checkpoints)


def saved(checkpoints: Path) -> list[str]:
    """Files of checkpoints; folders may vanish meanwhile."""
    patterns = (f"{checkpoints}/**/*.{kind}" for kind in ("pt", "parquet"))
    return [path for pattern in patterns for path in glob.glob(pattern, recursive=True)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_zero_steps_change_no_weights_and_fail_the_claims(chain: Path) -> None:
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
