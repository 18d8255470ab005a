"""Scores of many images: columns, bad rows, resuming after kills, several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.commands.scoring.conftest import REPOSITORY, png
from zreward_core import RewardModel
from zreward_core.cli import app
from zreward_core.commands.scoring import run
from zreward_core.commands.scoring.rows import Columns
from zreward_core.commands.scoring.score_file import open_scores
from zreward_core.config import UserError
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate
from zreward_core.schemas import tree_hash

COUNT = 42
USUAL = ("--model", "m", "--output", "o.parquet")
COMMAND = (
    "from zreward_core.commands.scoring import run\nrun.PART_ROWS, run.WINDOW = 4, 3\n"
    "from zreward_core.cli import main\nmain()"
)
"""`zreward` with parts of four rows."""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "PART_ROWS", 4)
    monkeypatch.setattr(run, "WINDOW", 3)
    return tmp_path


def write_images(count: int = COUNT, bad: tuple[int, ...] = ()) -> Path:
    contents = [b"torn" if number in bad else png(number) for number in range(count)]
    prompts = ["a cat" if number % 3 else "a cat on a red sofa" for number in range(count)]
    pq.write_table(pa.table({"image": contents, "prompt": prompts}), "t.parquet", row_group_size=7)
    return Path("t.parquet")


def score(student: str, output: str = "scores.parquet", **options: object) -> run.Scored:
    source = [Path("t.parquet")]
    result = run.score_source(source, student, Path(output), Columns(), **options)  # type: ignore[arg-type]
    assert result is not None
    return result


def start(*arguments: str, **options: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "score", "t.parquet", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_bad_image_costs_its_row_and_the_rest_are_the_models_scores(student: str) -> None:
    write_images(10, bad=(3, 8))
    result = score(student)
    assert (result.rows, result.errors) == (10, 2)
    assert "t.parquet row 4: image is not a readable image" in result.lines()[2]
    table = pd.read_parquet("scores.parquet")
    assert table["row"].tolist() == [*range(10)]
    assert table["error"].notna().to_numpy().nonzero()[0].tolist() == [3, 8]
    numbers = [c for c in table if c == "overall" or c.endswith(("_mean", "_std", "_mass"))]
    assert table.loc[[3, 8], numbers].isna().all(axis=None)  # never a 0
    assert table.loc[[3, 8], "alignment_probs"].isna().all()
    good = table[table["error"].isna()]
    model = RewardModel.from_pretrained(student)
    expected = model.score(list(good["prompt"]), [png(int(row)) for row in good["row"]])
    for d, name in enumerate(model.dimensions):
        means, probs = expected.mean[:, d], expected.probs[:, d].numpy()
        assert np.allclose(good[f"{name}_mean"], means, atol=1e-5)
        assert np.allclose(np.stack(good[f"{name}_probs"].tolist()), probs, atol=1e-5)
    assert np.allclose(good["overall"], expected.overall, atol=1e-5)
    assert set(table["model_sha256"]) == {tree_hash(Path(student))}
    assert set(table["rubric_sha256"]) == {model.backbone.rubric.sha256}
    assert open_scores(Path("scores.parquet")).dimensions == model.dimensions
    assert not Path("scores.parquet.parts").exists()


def test_a_long_prompt_costs_its_row(student: str) -> None:
    table = pa.table({"image": [png(1), png(2)], "prompt": ["cat " * 9000, "a cat"]})
    pq.write_table(table, "t.parquet")
    assert score(student).errors == 1
    (reason, none) = pd.read_parquet("scores.parquet")["error"]
    assert "prompt" in reason and not reason.startswith("row") and pd.isna(none)


def test_no_score_at_all_is_an_error(student: str) -> None:
    write_images(5, bad=tuple(range(5)))
    with pytest.raises(UserError, match=r"no image could be scored; the first, t\.parquet row 1"):
        score(student)
    assert [path.name for path in Path().iterdir()] == ["t.parquet"]


def test_kills_resume_to_the_same_bytes(student: str) -> None:
    write_images(400, bad=(6,))
    for before in (0, 12):  # parts at the kill
        job = start("--model", student, "--output", "killed.parquet")
        deadline = time.monotonic() + 300
        while len(list(Path("killed.parquet.parts").glob("??????.parquet"))) <= before:
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.002)
        job.send_signal(signal.SIGKILL)
        job.communicate()
        assert not Path("killed.parquet").exists()
    done = len(list(Path("killed.parquet.parts").glob("??????.parquet")))
    assert 13 <= done < 100
    kept = Path("killed.parquet.parts/000000.parquet").stat().st_mtime_ns
    shutil.copytree("killed.parquet.parts", "copy")
    job = start("--model", student, "--output", "killed.parquet")
    told, errors = job.communicate()
    assert job.returncode == 0, errors
    assert "killed.parquet: 400 images" in told and "1 without a score" in told
    assert Path("copy/000000.parquet").stat().st_mtime_ns >= kept
    score(student, "whole.parquet")
    assert Path("killed.parquet").read_bytes() == Path("whole.parquet").read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_with_a_line_that_says_how_to_continue(student: str, processes: int) -> None:
    write_images(4000)  # far from done when the first parts are seen, also on a busy machine
    if processes > 1:
        Path("launch.yaml").write_text(
            "launchers: {two: {kind: accelerate, processes: 2, threads: 1, cpu: true}}\n"
            "stages: {score: two}\n"
        )
    output = Path("scores.parquet.parts")
    job = start("--model", student, "--output", "scores.parquet", start_new_session=True)
    name = "??????.parquet" if processes == 1 else "job.json"  # workers have parts of 1024 rows
    deadline = time.monotonic() + 300
    while not list(output.glob(name)):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.002)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does
    told, errors = job.communicate()
    assert job.returncode == 130 and not told
    (line,) = [line for line in errors.splitlines() if not line.startswith("[transformers]")]
    assert line == (
        f"score interrupted: finished parts are kept in {output}, and the same command continues"
    )
    assert output.is_dir()


def test_two_processes_write_the_bytes_of_one(student: str) -> None:
    write_images(60, bad=(6, 50))
    score(student, "one.parquet")
    settings = Accelerate(kind="accelerate", processes=2, threads=1, cpu=True)
    command = [sys.executable, "-c", COMMAND, "score", "t.parquet", "--model", student]
    environment = {"PYTHONPATH": str(REPOSITORY), "ZREWARD_WORKER": "1"}
    assert run_processes(settings, [*command, "--output", "two.parquet"], environment) == 0
    assert Path("two.parquet").read_bytes() == Path("one.parquet").read_bytes()


def test_launch_yaml_starts_processes(student: str) -> None:
    write_images(6)
    Path("launch.yaml").write_text(
        "launchers: {two: {kind: accelerate, processes: 2, threads: 1, cpu: true}}\n"
        "stages: {score: two}\n"
    )
    job = start("--model", student, "--output", "scores.parquet")
    told, errors = job.communicate()
    assert job.returncode == 0, errors
    assert told.count("scores.parquet: 6 images") == 1
    assert pq.read_metadata("scores.parquet").num_rows == 6


def test_a_finished_file_is_kept_and_another_job_is_refused(
    student: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(6)
    assert score(student).rate is not None
    before = Path("scores.parquet").stat().st_mtime_ns
    assert score(student).rate is None and "complete already" in score(student).lines()[0]
    assert Path("scores.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"scores\.parquet exists and is of another model"):
        score(student, batch_size=2)
    time.sleep(0.02)
    write_images(6)  # of the same size, but newer
    with pytest.raises(UserError, match=r"scores\.parquet exists and is of another model"):
        score(student)
    pairs = {f"{number}.png": "a cat" for number in range(2)}
    Path("folder").mkdir()
    Path("folder/prompts.json").write_text(json.dumps(pairs))
    for name in pairs:
        Path("folder", name).write_bytes(png(1))
    columns = Columns()
    run.score_source([Path("folder")], student, Path("named.parquet"), columns)
    time.sleep(0.02)
    Path("folder/1.png").write_bytes(png(2))  # of a new generator
    with pytest.raises(UserError, match=r"named\.parquet exists, but folder/1\.png is newer"):
        run.score_source([Path("folder")], student, Path("named.parquet"), columns)
    table = "\n".join(["image,prompt", *(f"folder/{number % 2}.png,a cat" for number in range(9))])
    Path("t.csv").write_text(table)
    parts = Path("half.parquet.parts")
    with monkeypatch.context() as patch:
        patch.setattr(run.Parts, "finish", lambda *_: None)  # as if it had been killed there
        with pytest.raises(UserError, match="run it again"):
            run.score_source([Path("t.csv")], student, Path("half.parquet"), columns)
    (parts / "000002.parquet").unlink()
    time.sleep(0.02)
    Path("folder/1.png").write_bytes(png(3))
    with pytest.raises(UserError, match=r"half\.parquet\.parts exists, but folder/1\.png is newer"):
        run.score_source([Path("t.csv")], student, Path("half.parquet"), columns)
    Path("other.parquet.parts").mkdir()
    Path("other.parquet.parts/job.json").write_text(json.dumps({"rows": 1}))
    with pytest.raises(UserError, match=r"unfinished job that differs in .*rows"):
        score(student, "other.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["t.parquet"],
            r"t\.parquet: give --model .* and --output .* zreward score t\.parquet",
        ),
        (["a.png"], "give --model .* and --prompt"),
        (
            ["a.png", "--prompt", "it's red"],
            r"score a\.png --model \S+ --prompt 'it'\"'\"'s red'\.",
        ),
        (
            ["pictures", "--prompt", "x"],
            r"score pictures --model \S+ --prompt x --output scores\.parquet",
        ),
        (["pictures", "--output", "o.parquet"], r"--model \S+ --output o\.parquet\."),
        (["nothing"], "^nothing is not found: pass images, or a table"),
        (["a.png", "nothing", "--prompt", "x"], "^nothing is not found"),
        (["pictures"], r"pictures: give --model .* and --output .* zreward score pictures"),
        (["t.parquet", "--model", "m"], "give --output"),
        (["a.png", "--model", "m", "--prompt", " "], "^--prompt is empty: give the text"),
        (["a.png", "--model", "m", "--prompt", "x", "--output", "no/o.parquet"], "no is not a fol"),
        (["t.parquet", "--model", "m", "--output", "x.csv"], "must end with .parquet"),
        (["t.parquet", "--model", "m", "--output", "t.parquet"], "is an input or another output"),
        (["t.parquet", *USUAL], "m is not a folder"),
        (
            ["t.parquet", *USUAL, "--prompt", "x", "--prompt-column", "c"],
            "give either --prompt, one for all images, or --prompt-column c",
        ),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], message: str) -> None:
    write_images(2)
    Path("pictures").mkdir()
    for image in ("a.png", "pictures/a.png"):
        Path(image).write_bytes(png(1))
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, ["score", *arguments], catch_exceptions=False)
