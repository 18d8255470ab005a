"""`zreward score` and the entry point: hostile arguments cost themselves and end with a message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core import RewardModel
from zreward_core.commands.score import score_files, shown
from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "student"
    rubric = load_rubric(REPOSITORY / "data/rubric.yaml")
    build_backbone(SIZES, ["a cat"], rubric, PROMPT, seed=1).save(folder, {})
    return folder


def zreward(*arguments: str | bytes, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zreward_core", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_bad_image_costs_itself(student: Path, tmp_path: Path) -> None:
    good = encode_png(np.full((20, 30, 3), 90, np.uint8))
    (tmp_path / "a.png").write_bytes(good)
    (tmp_path / "b.png").write_bytes(good)
    (tmp_path / "torn.png").write_bytes(good[:40])
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    bad = {
        tmp_path / "torn.png": "is not a readable image",
        tmp_path / "loop.png": "is not found",
        tmp_path / "pipe.png": "is not found",
        tmp_path / ("x" * 300): "is not found",
        tmp_path / "a\0b": "is not found",
        Path("/proc/self/mem"): "cannot be read: Input/output error",
    }
    paths = [tmp_path / "a.png", *bad, tmp_path / "b.png"]
    results = score_files(paths, str(student), "a cat")
    assert [one["image"] for one in results] == [str(path) for path in paths]
    assert results[0]["dimensions"] == results[-1]["dimensions"]
    for one, reason in zip(results[1:-1], bad.values(), strict=True):
        assert reason in one["error"]
    assert sum(line.endswith(".png") for line in shown(results)) == 2
    expected = RewardModel.from_pretrained(student).score("a cat", paths[0]).overall.item()
    assert results[0]["overall"] == pytest.approx(expected)
    assert list(shown(results))[-1] == f"  overall        {expected:.2f}"
    with pytest.raises(UserError, match="row 0: the prompt"):
        score_files(paths, str(student), "cat " * 3000)


def test_the_command_prints_scores_and_exits_with_2_for_the_others(
    student: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.full((20, 30, 3), 90, np.uint8)))
    names = ("a.png", "y" * 300, "--model", str(student), "--prompt", "a cat", "--json")
    done = zreward("score", *names, cwd=tmp_path)
    assert done.returncode == 2 and "is not found" in done.stderr
    assert [set(one) for one in json.loads(done.stdout)] == [
        {"image", "overall", "dimensions"},
        {"image", "error"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", b"\xff.png", "--model", "m", "--prompt", "p"], r"\udcff.png is not UTF-8"),
        (["score", "a.png", "--model", "m", "--prompt", b"a \xfe cat"], "is not UTF-8"),
        (["--root", "r" * 300, "summary"], "File name too long"),
        (["--root", "/proc/self/mem/x", "summary"], "is not a folder"),
        (["--root", "/sys", "world"], "/sys is not a project"),
        (["init", "/sys/x"], "/sys/x: free space, correct the permissions"),
        (["workspace", "../params"], "no profile '../params'"),
        (["workspace", "w" * 300], "no profile"),
    ],
)
def test_hostile_arguments_end_with_a_message(
    tmp_path: Path, arguments: list, message: str
) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    done = zreward(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / ".zreward").exists()


@pytest.mark.parametrize("target", ["run", "ui", "limits", "bench"])
def test_make_refuses_an_unknown_profile_and_runs_nothing(tmp_path: Path, target: str) -> None:
    (tmp_path / "Makefile").write_text((REPOSITORY / "Makefile").read_text())
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    command = ["make", "--old-file", ".venv/.installed", target, "PROFILE=typo"]
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PATH": programs, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(errors) == 1 and "no profile 'typo'" in errors[0]
