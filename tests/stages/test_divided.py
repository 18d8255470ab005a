"""Two processes divide the work of a stage by shards and write the files of one; tuning divides its
updates too.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from tests.stages.generator_root import TUNING, candidates_config, finished_root, root
from tests.stages.training_root import ON_POLICY, RUBRIC, tiny, trainable_root
from zreward_core.commands import gate
from zreward_core.config import StageConfig
from zreward_core.runtime.checkpoint import CHECKPOINTS
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate, Fsdp
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, file_hashes, read_table, write_table
from zreward_core.stages import (
    candidates,
    evaluate,
    evaluate_gsb,
    finetune_generator,
    predict,
    train_grpo,
)

__all__ = ["finished_root", "root", "trainable_root"]
ROOT = Path(__file__).parents[2]
TWO = Accelerate(kind="accelerate", processes=2, threads=1, cpu=True)
pytestmark = pytest.mark.timeout(900)
COUNTED = """
import os, time
from zreward_core.runtime.checkpoint import Checkpoint
save, rank = Checkpoint.save_table, int(os.environ["RANK"])
def counted(self, name, *arguments):
    with open(f"made{rank}", "a") as file:
        file.write(name + " ")
    deadline = time.monotonic() + 300  # each process makes some, however slow the other is
    while not os.path.exists(f"made{1 - rank}") and time.monotonic() < deadline:
        time.sleep(0.05)
    save(self, name, *arguments)
Checkpoint.save_table = counted
"""
RUN = """
from zreward_core.stages import {stage}
{stage}.run({stage}.Config.model_validate_json({config!r}))
"""
ONE_IMAGE_A_SHARD = """
from zreward_core.stages import predict
predict.SHARD_IMAGES = predict.SHARD_IMAGES_REASONING = 1
"""
TWO_SAMPLES_A_SHARD = """
from zreward_core.stages import candidates
candidates.SHARD_SAMPLES = 2
"""
WITHOUT_MOMENTS = """
import torch
torch.optim.AdamW = lambda weights, lr, weight_decay: torch.optim.SGD(weights, lr)
"""
FIRST_IS_BEST = """
from zreward_core.stages._validation import Validation
measure, nll = Validation.measure, iter([0.5, 0.9])
Validation.measure = lambda self: measure(self) | {"nll": next(nll)}
"""
GATE = """
from pathlib import Path
from zreward_core.commands import gate
gate.SHARD_IMAGES = 1
gate.compute_scores(Path({model!r}), "sha256", gate.read_test_set(), "float32")
"""
WEIGHTS = "generator/transformer/diffusion_pytorch_model.safetensors"
ALONE = Path("alone")
"""Output of one process."""


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
    stage: ModuleType, config: StageConfig, before: str = "", rounded: Sequence[str] = ()
) -> None:
    """As ``compare_runs``, of a stage, after some other code."""
    module = stage.__name__.rsplit(".", 1)[-1]
    code = before + RUN.format(stage=module, config=config.model_dump_json())
    compare_runs(code, stage.OUTPUT, module, rounded)


def compare_runs(code: str, output: Path, name: str, rounded: Sequence[str] = ()) -> None:
    """Run code in one and in two new processes; their files are equal but for the ``rounded``.

    Not in the process of the tests: once a model was trained in a process, its samples can differ
    by rounding from those of a new one.

    Args:
        output: folder that the code writes.
        name: of the checkpoint.
    """
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True)
    output.rename(ALONE)
    assert run_processes(TWO, [sys.executable, "-c", COUNTED + code], environment) == 0
    expected, found = file_hashes(ALONE), file_hashes(output)
    assert set(found) == set(expected)
    assert {name for name in found if found[name] != expected[name]} <= set(rounded)
    made = [Path(f"made{rank}").read_text().split() for rank in (0, 1)]
    assert made[0] and made[1] and len(made[0] + made[1]) == len({*made[0], *made[1]})
    assert not (CHECKPOINTS / name).exists()


@pytest.mark.parametrize(("reasoning", "model"), [(True, "teacher"), (False, "student")])
def test_predict(trained_root: Path, reasoning: bool, model: str) -> None:
    folder = Path("data/base_vlm") / model
    config = predict.Config(seed=1, batch_size=1, model=folder, reasoning=reasoning)
    compare(predict, config, ONE_IMAGE_A_SHARD)


def test_evaluate(trained_root: Path) -> None:
    config = evaluate.Config(seed=1, batch_size=1, num_examples=1)
    compare(evaluate, config, ONE_IMAGE_A_SHARD)


def test_gate(trained_root: Path) -> None:
    compare_runs(GATE.format(model=str(evaluate.STUDENT)), gate.SCORES, "gate")


def test_candidates(root: Path) -> None:
    compare(candidates, candidates_config(), TWO_SAMPLES_A_SHARD)


def test_evaluate_gsb(root: Path) -> None:
    shutil.copytree("data/base_generator", "data/finetune_generator")
    config = evaluate_gsb.Config(seed=5, num_steps=2, samples=2, size=(32, 32), batch_size=2)
    compare(evaluate_gsb, config)


def test_samples_of_finetune_generator(root: Path) -> None:
    config = finetune_generator.Config(seed=5, **TUNING | {"steps": 0, "sample_batch_size": 1})
    rounded = ["metrics.json", "summary.json", "contact_sheet.png"]  # judged in other batches
    compare(finetune_generator, config, rounded=rounded)


def test_updates_of_finetune_generator(root: Path) -> None:
    """AdamW would normalize gradients: where one is near zero, rounding sets the update's sign."""
    settings = {"steps": 2, "learning_rate": 0.5, "panel": False, "accumulation": 2}
    settings |= {"batch_size": 3, "sample_batch_size": 1}
    config = finetune_generator.Config(seed=5, **TUNING | settings)
    written = finetune_generator.OUTPUT
    rounded = ["metrics.json", "summary.json", "history.jsonl", WEIGHTS]
    rounded += [f"{name}.png" for name in ("contact_sheet", "samples_by_step", "tuning")]
    compare(finetune_generator, config, WITHOUT_MOMENTS, rounded)
    one, two = (read_history(folder / "history.jsonl") for folder in (ALONE, written))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        assert {k: v for k, v in b.items() if k.startswith("tune/")} == pytest.approx(
            {k: v for k, v in a.items() if k.startswith("tune/")}, rel=1e-5
        )
        assert b == pytest.approx(a, abs=0.01)  # scores of images of 8 bits
    assert one[2]["tune/velocity_distance"] > 0
    base = load_file(Path("data/base_generator") / WEIGHTS)
    one, two = (load_file(folder / WEIGHTS) for folder in (ALONE, written))
    for name in base:
        assert (one[name] - two[name]).abs().max() < 1e-6
    assert max(float((one[name] - base[name]).abs().max()) for name in base) > 1e-4


def test_a_sharded_model_is_validated_and_its_best_weights_are_exported(trained_root: Path) -> None:
    items = read_table(evaluate.ITEMS_FILE, ITEMS)
    items["split"] = items["split"].replace("test", "validation")
    write_table(items, evaluate.ITEMS_FILE, ITEMS)
    settings = ON_POLICY | {"steps": 2, "learning_rate": 0.01, "validate_every": 1, "keep": "best"}
    config = train_grpo.Config(seed=1, **settings).model_dump_json()
    command = [sys.executable, "-c", FIRST_IS_BEST + RUN.format(stage="train_grpo", config=config)]
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=os.environ | environment, check=True)
    train_grpo.OUTPUT.rename(ALONE)
    sharded = TWO.model_copy(update={"fsdp": Fsdp()})
    assert run_processes(sharded, command, environment) == 0
    one, two = (read_history(folder / "history.jsonl") for folder in (ALONE, train_grpo.OUTPUT))
    assert [row["validation/nll"] for row in two] == [0.5, 0.9]
    assert two[0]["validation/plcc"] == pytest.approx(one[0]["validation/plcc"], abs=0.01)
    folders = (evaluate.BASES, ALONE, train_grpo.OUTPUT)
    base, one, two = (load_file(folder / "teacher/model.safetensors") for folder in folders)
    moved, apart = (
        sum(float((one[name] - other[name]).abs().sum()) for name in one) for other in (base, two)
    )
    assert 0 < apart < 0.05 * moved  # AdamW: where a gradient is near zero, rounding sets its sign


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
