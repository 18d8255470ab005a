"""Two processes divide the work of a stage by shards and write the files of one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.stages.generator_root import TUNING, candidates_config, finished_root, root
from tests.stages.training_root import RUBRIC, tiny, trainable_root
from zreward_core.config import StageConfig
from zreward_core.runtime.checkpoint import CHECKPOINTS
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate
from zreward_core.schemas import file_hashes
from zreward_core.stages import candidates, evaluate, evaluate_gsb, finetune_generator, predict

__all__ = ["finished_root", "root", "trainable_root"]
ROOT = Path(__file__).parents[2]
TWO = Accelerate(kind="accelerate", processes=2, threads=1, cpu=True)
pytestmark = pytest.mark.timeout(900)
COUNTED = """
import os, time
from zreward_core.runtime.checkpoint import Checkpoint
save, rank = Checkpoint.save_table, int(os.environ["RANK"])
def counted(self, name, *arguments):
    with open(f"made{{rank}}", "a") as file:
        file.write(name + " ")
    deadline = time.monotonic() + 300  # each process makes some, however slow the other is
    while not os.path.exists(f"made{{1 - rank}}") and time.monotonic() < deadline:
        time.sleep(0.05)
    save(self, name, *arguments)
Checkpoint.save_table = counted
"""
RUN = """
from zreward_core.stages import {stage}
for name, value in {patches}.items():
    setattr({stage}, name, value)
{stage}.run({stage}.Config.model_validate_json({config!r}))
"""
SMALL = {"SHARD_IMAGES": 1, "SHARD_IMAGES_REASONING": 1}


@pytest.fixture
def trained_root(trainable_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root with a trained teacher and student, and two annotators' ratings of test items."""
    shutil.copytree(trainable_root, tmp_path / "trained")
    monkeypatch.chdir(tmp_path / "trained")
    Path("data/rubric.yaml").write_text(yaml.safe_dump(RUBRIC.model_dump(mode="json")))
    for seed, folder in enumerate((evaluate.TEACHER, evaluate.STUDENT), start=7):
        tiny(seed).save(folder, {})
        (folder.parent / "history.jsonl").touch()
    ratings = pd.read_parquet(evaluate.ITEMS_FILE)[["item_id", "dimension", "score"]]
    both = pd.concat([ratings.assign(annotator_id=who) for who in "ab"])
    both.to_parquet(evaluate.VALIDATE / "test_ratings.parquet")
    return tmp_path / "trained"


def compare(
    stage: ModuleType, config: StageConfig, patches: dict[str, Any], rounded: Sequence[str] = ()
) -> None:
    """Run a stage in one and in two new processes; their files are equal but for the ``rounded``.

    Not in the process of the tests: once a model was trained in a process, its samples can differ
    by rounding from those of a new one.
    """
    module = stage.__name__.rsplit(".", 1)[-1]
    named = {"stage": module, "patches": patches, "config": config.model_dump_json()}
    environment = {"PYTHONPATH": str(ROOT)}
    one = [sys.executable, "-c", RUN.format(**named)]
    subprocess.run(one, env=os.environ | environment, check=True)
    expected = file_hashes(stage.OUTPUT)
    shutil.rmtree(stage.OUTPUT)
    two = [sys.executable, "-c", (COUNTED + RUN).format(**named)]
    assert run_processes(TWO, two, environment) == 0
    found = file_hashes(stage.OUTPUT)
    assert set(found) == set(expected)
    assert {name for name in found if found[name] != expected[name]} <= set(rounded)
    made = [Path(f"made{rank}").read_text().split() for rank in (0, 1)]
    assert made[0] and made[1] and len(made[0] + made[1]) == len({*made[0], *made[1]})
    assert not (CHECKPOINTS / module).exists()


@pytest.mark.parametrize(("reasoning", "model"), [(True, "teacher"), (False, "student")])
def test_predict(trained_root: Path, reasoning: bool, model: str) -> None:
    folder = Path("data/base_vlm") / model
    config = predict.Config(seed=1, batch_size=1, model=folder, reasoning=reasoning)
    compare(predict, config, SMALL)


def test_candidates(root: Path) -> None:
    compare(candidates, candidates_config(), {"SHARD_SAMPLES": 2})


def test_evaluate_gsb(root: Path) -> None:
    shutil.copytree("data/base_generator", "data/finetune_generator")
    config = evaluate_gsb.Config(seed=5, num_steps=2, samples=2, size=(32, 32), batch_size=2)
    compare(evaluate_gsb, config, {})


def test_finetune_generator(root: Path) -> None:
    settings = TUNING | {"steps": 0, "sample_batch_size": 1}  # updates differ by rounding
    rounded = ["metrics.json", "summary.json", "contact_sheet.png"]  # judged in other batches
    compare(finetune_generator, finetune_generator.Config(seed=5, **settings), {}, rounded)


def test_a_killed_evaluation_continues_with_the_missing_shards(
    trained_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "SHARD_IMAGES_REASONING", 1)
    config = evaluate.Config(seed=1, batch_size=1, num_examples=0)
    evaluate.run(config)
    expected = file_hashes(evaluate.OUTPUT)
    judged, calls = predict.reasoning_rows, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judged(*arguments)

    monkeypatch.setattr(predict, "reasoning_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(config)
    evaluate.run(config)
    assert len(calls) == 5  # two images, two models, one of them twice
    assert file_hashes(evaluate.OUTPUT) == expected
