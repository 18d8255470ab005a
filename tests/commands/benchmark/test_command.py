"""The whole command with a tiny model: scores, images inside and outside Parquet, output files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.commands.benchmark import made_up
from tests.tiny_models import PROMPT, SIZES
from zreward_core import RewardModel
from zreward_core.commands.benchmark.judges import LARGER
from zreward_core.commands.benchmark.report import METADATA
from zreward_core.commands.benchmark.run import run_benchmark
from zreward_core.config import UserError
from zreward_core.images import read_image
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "student"
    rubric = load_rubric(REPOSITORY / "data/rubric.yaml")
    build_backbone(SIZES, ["a cat"], rubric, PROMPT, seed=1).save(folder, {})
    return folder


def test_the_models_scores_decide(student: Path, tmp_path: Path) -> None:
    rows = made_up.hpdv3(tmp_path)
    report = run_benchmark("hpdv3", tmp_path, str(student), tmp_path / "pairs.json")
    content = json.loads((tmp_path / "pairs.json").read_text())
    model = RewardModel.from_pretrained(student)
    paths = [tmp_path / row[side] for row in rows for side in ("path1", "path2")]
    prompts = [row["prompt"] for row in rows for _ in "12"]
    scores = model.score(prompts, [read_image(path)[1] for path in paths]).mean.double().numpy()
    for judge, column in zip(["overall", *model.dimensions], [None, *scores.T], strict=True):
        means = scores.mean(axis=1) if column is None else column
        expected = means[0::2] - means[1::2]
        written = [row for row in content["rows"] if row["judge"] == judge]
        assert [row["difference"] for row in written] == pytest.approx(expected.tolist(), abs=1e-6)
        right = (expected > 0).astype(float)
        assert [row["credit: listed order"] for row in written] == right.tolist()
        assert written[1]["credit: confidence from 0.95"] is None
        found = next(r for r in report.results if (r.rule, r.judge) == ("listed order", judge))
        assert found.value == pytest.approx(right.mean())
    assert content["model"] == str(student) and content["counts"]["pairs"] == 3


def test_images_inside_parquet(student: Path, tmp_path: Path) -> None:
    made_up.tiger(tmp_path, ["leftvote", "rightvote", "tievote", "leftvote", "rightvote"])
    output = tmp_path / "pairs.parquet"
    run_benchmark("genai_bench_tiger", tmp_path, str(student), output)
    table = pd.read_parquet(output)
    rows = table[table["judge"] == "overall"].reset_index(drop=True)
    model = RewardModel.from_pretrained(student)
    for number in range(5):
        pair = [np.full((16, 16, 3), base + number, np.uint8) for base in (20, 120)]
        means = model.score([f"prompt {number}"] * 2, pair).mean.double().numpy().mean(axis=1)
        assert rows["difference"][number] == pytest.approx(means[0] - means[1], abs=1e-6)
    sizes = table[table["judge"] == LARGER]["difference"].tolist()
    expected = [len(made_up.png(20 + n)) - len(made_up.png(120 + n)) for n in range(5)]
    assert sizes == expected
    figures = json.loads(pq.read_schema(output).metadata[METADATA])
    assert figures["benchmark"] == "genai_bench_tiger"


def test_rated_images(student: Path, tmp_path: Path) -> None:
    made_up.genai_bench_cmu(tmp_path, {"a cat": [[5, 4, 4], [1, 2, 1]], "a dog": [[3, 3, 3]] * 3})
    names = [f"{model}/00001.jpeg" for model in ("DALLE_3", "SDXL_Base")]
    names += [f"{model}/00002.jpeg" for model in ("DALLE_3", "SDXL_Base", "SDXL_2_1")]
    made_up.write_images(tmp_path / "GenAI-Image-527", names)
    report = run_benchmark("genai_bench_cmu", tmp_path, str(student), tmp_path / "images.json")
    content = json.loads((tmp_path / "images.json").read_text())
    rows = [row for row in content["rows"] if row["judge"] == "overall"]
    assert [row["human"] for row in rows] == pytest.approx([13 / 3, 4 / 3, 3, 3, 3])
    scores = [row["score"] for row in rows]
    expected = np.corrcoef(scores, [row["human"] for row in rows])[0, 1]
    found = next(r for r in report.results if (r.rule, r.judge) == ("pearson", "overall"))
    assert found.value == pytest.approx(expected)


def test_an_absent_or_broken_image_is_named_with_its_row(student: Path, tmp_path: Path) -> None:
    made_up.hpdv3(tmp_path)
    (tmp_path / "images/1_bad.png").write_bytes(made_up.png(1)[:40])
    with pytest.raises(UserError, match=r"test\.json record 2: .*1_bad\.png is not a readable"):
        run_benchmark("hpdv3", tmp_path, str(student))
    (tmp_path / "images/1_bad.png").unlink()
    message = r"test\.json record 2: no image 'images/1_bad\.png' below .* \(1 missing\)"
    with pytest.raises(UserError, match=message):
        run_benchmark("hpdv3", tmp_path, str(student))
    for copy in ("one", "two"):
        made_up.write_images(tmp_path / copy / "images", ["1_bad.png"])
    with pytest.raises(UserError, match=r"record 2: 'images/1_bad\.png' is .* and .*; keep one"):
        run_benchmark("hpdv3", tmp_path)


def test_a_prompt_that_is_absent_or_too_long_is_named(student: Path, tmp_path: Path) -> None:
    pair = made_up.mmrb2_pair(1, "A", [6, 5, 4])
    pair["prompt_content"] = [["text", "cat " * 3000]]
    made_up.mmrb2(tmp_path, [pair])
    made_up.write_images(tmp_path / "images", ["1_a.png", "1_b.png"])
    with pytest.raises(UserError, match=r"t2i\.json record 1: the prompt"):
        run_benchmark("mmrb2", tmp_path, str(student))
    (tmp_path / "t2i.json").unlink()
    del pair["prompt_content"]
    made_up.write_json(tmp_path / "t2i_response_only.json", {"pairs": [pair]})
    with pytest.raises(UserError, match=r"record 1: no prompt"):
        run_benchmark("mmrb2", tmp_path, str(student))


@pytest.mark.parametrize("output", ["pairs.csv", "none/pairs.json", "."])
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path, output: str) -> None:
    made_up.hpdv3(tmp_path)
    with pytest.raises(UserError, match="--output"):
        run_benchmark("hpdv3", tmp_path, None, tmp_path / output)


def test_the_command_prints_a_table_or_one_message(tmp_path: Path) -> None:
    def zreward(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zreward_core", "benchmark", *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    made_up.mj_bench(tmp_path, [0, 0, 1])
    done = zreward("mj_bench", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "with ties" in done.stdout and "first image" in done.stdout
    done = zreward("mjbench", str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no benchmark 'mjbench'; choose from evalmuse, " in done.stderr
