"""Every command of docs/scoring.md runs."""

import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.tiny_models import PROMPT, SIZES
from zreward_core.cli import app
from zreward_core.images import encode_png, write_images
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.runtime.launch_settings import read_launcher

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/scoring.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in FENCES if not kind for line in block.splitlines()]


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return encode_png(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, images and tables that the commands name."""
    path = tmp_path_factory.mktemp("examples")
    rubric = load_rubric(ROOT / "data/rubric.yaml")
    build_backbone(SIZES, ["a cat"], rubric, PROMPT, seed=0).save(path / "student", {})
    prompts = ["a cat", "a cat", "a dog", "a dog"]
    for name in ("photos", "first", "second", "third"):
        (path / name).mkdir()
        for number in range(4):
            (path / name / f"{number}.png").write_bytes(png(10 * len(name) + number))
            (path / name / f"{number}.txt").write_text(prompts[number])
    for name in ("cat", "dog"):
        Image.fromarray(np.full((20, 20, 3), len(name), np.uint8)).save(path / f"{name}.png")
    names = [f"photos/{number}.png" for number in range(4)]
    pd.DataFrame({"image": names, "prompt": prompts}).to_csv(path / "images.csv", index=False)
    contents = [png(number) for number in range(4)]
    pd.DataFrame({"image": contents, "caption": prompts}).to_parquet(path / "bytes.parquet")
    ids = write_images(contents, path / "images")
    pd.DataFrame({"image_id": ids, "prompt": prompts}).to_parquet(path / "pool.parquet")
    with tarfile.open(path / "web.tar", "w") as archive:
        for file in sorted((path / "photos").iterdir()):
            archive.add(file, file.name)
    return path


def test_the_commands_run_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(COMMANDS) == 15
    invoke = CliRunner().invoke
    for name in ("first", "second"):
        given = ["score", name, "--model", "student", "--output", f"{name}.parquet"]
        assert invoke(app, given, catch_exceptions=False).exit_code == 0
    for command in COMMANDS:
        word, *arguments = shlex.split(command)
        assert word == "zreward"
        done = invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, (command, done.output)
        if "--output" in arguments:
            assert Path(arguments[arguments.index("--output") + 1]).is_file(), command
    assert len(pd.read_parquet("best.parquet")) == 2
    assert len(pd.read_parquet("upper.parquet")) == 3
    columns = re.findall(r"`(\w+)`", TEXT[TEXT.index("| column |") : TEXT.index("Dimensions, lev")])
    stored = pd.read_parquet("scores.parquet").columns
    named = {one.replace("DIMENSION", "alignment") for one in columns if not one.startswith("_")}
    assert named <= set(stored)


def test_the_launcher_of_the_docs_is_valid(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (yaml,) = (block for kind, block in FENCES if kind == "yaml")
    Path("launch.yaml").write_text(yaml)
    launcher = read_launcher("score", ("score",))
    assert launcher is not None and launcher.kind == "accelerate" and launcher.processes == 8
