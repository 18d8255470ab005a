"""The stage finetune_generator."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.stages.generator_root import TUNING, finished_root, root
from zreward_core.config import UserError
from zreward_core.models.scorer import RewardModel
from zreward_core.runtime.checkpoint import tree_hash
from zreward_core.runtime.progress import LIVE, read_history
from zreward_core.stages import _tuning, finetune_generator
from zreward_core.stages.finetune_generator import Config
from zreward_core.training import judges
from zreward_core.training.judges import oracle_judge, panel_judge, reward_judge

__all__ = ["finished_root", "root"]
OUTPUT = Path("data/finetune_generator")
WEIGHTS = "generator/transformer/diffusion_pytorch_model.safetensors"
NAMES = {"alignment", "realism", "aesthetics", "plausibility", "mean"}


def config(**changes) -> Config:
    return Config(**{"seed": 5, **TUNING, **changes})


def test_without_steps_the_generator_is_unchanged(root):
    finetune_generator.run(config(steps=0))
    base = load_file(Path("data/base_generator") / WEIGHTS)
    tuned = load_file(OUTPUT / WEIGHTS)
    assert all((tuned[name] == base[name]).all() for name in base)
    metrics = json.loads((OUTPUT / "metrics.json").read_text())
    assert set(metrics) == {"reward", "panel"}
    for judge in metrics.values():
        assert set(judge) == NAMES
        for row in judge.values():
            assert row["after"] == row["before"]
            assert row["low"] == row["high"] == 0


def test_the_oracle_is_evaluated_if_configured(root):
    finetune_generator.run(config(oracle=True))
    metrics = json.loads((OUTPUT / "metrics.json").read_text())
    assert set(metrics) == {"reward", "panel", "oracle"}
    history = read_history(OUTPUT / "history.jsonl")
    watched = [row for row in history if "oracle/mean" in row]
    assert [row["step"] for row in watched] == [0, 2, 4]
    sheets = sorted((LIVE / "finetune_generator").iterdir())  # for the tracker, while it runs
    assert [int(path.stem) for path in sheets] == [0, 2, 4]
    assert all(Image.open(path).width > 500 for path in sheets), "the tiles are enlarged"
    summary = json.loads((OUTPUT / "summary.json").read_text())
    assert set(summary["panel"]) == {"before", "after", "change_low", "change_high"}
    assert all(1 <= row["oracle/alignment"] <= 5 for row in watched)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 2}])
def test_a_killed_run_resumes_to_the_same_generator(root, monkeypatch, lora):
    settings = config(lora=lora, panel=lora is None)
    finetune_generator.run(settings)
    expected = tree_hash(OUTPUT)
    base, tuned = (load_file(p / WEIGHTS) for p in (Path("data/base_generator"), OUTPUT))
    assert set(base) == set(tuned)
    assert any((tuned[name] != base[name]).any() for name in base)
    calls = iter(range(100))
    step = _tuning.train_step

    def killed(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(_tuning, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune_generator.run(settings)
    monkeypatch.setattr(_tuning, "train_step", step)
    finetune_generator.run(settings)
    assert tree_hash(OUTPUT) == expected
    history = read_history(OUTPUT / "history.jsonl")
    assert [row["step"] for row in history] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in history if "reward/mean" in row] == [0, 2, 4]
    assert history[1]["tune/velocity_distance"] == 0.0  # before the first update
    assert history[4]["tune/velocity_distance"] > 0.0
    card = json.loads((OUTPUT / "generator/zreward.json").read_text())
    assert card["student_sha256"] == tree_hash(Path("data/champion/student"))


def test_a_hacked_reward_stops_tuning_and_the_weights_before_it_are_kept(root, monkeypatch):
    """The panel is 6 minus the reward: it falls whenever the reward rises."""
    reward = reward_judge(RewardModel.from_pretrained(Path("data/champion/student")))

    def opposed(*arguments):
        return lambda prompts, images: 6.0 - reward(prompts, images)

    monkeypatch.setattr(finetune_generator, "panel_judge", opposed)
    changes = {"steps": 9, "learning_rate": 1e-2, "ema_decay": 0.0, "velocity_weight": 0.0}
    finetune_generator.run(config(watch={"num_prompts": 4, "every": 1}, **changes))
    history = read_history(OUTPUT / "history.jsonl")
    assert [row["step"] for row in history] == [0, 1, 2]
    assert history[2]["reward/mean"] > history[0]["reward/mean"]
    base, kept = (load_file(p / WEIGHTS) for p in (Path("data/base_generator"), OUTPUT))
    assert all((kept[name] == base[name]).all() for name in base)


def test_the_reward_of_accumulated_batches_is_their_mean(root):
    changes = {"steps": 1, "accumulation": 2, "batch_size": 1, "velocity_weight": 0.0}
    finetune_generator.run(config(panel=False, **changes))
    row = read_history(OUTPUT / "history.jsonl")[1]
    assert 1.0 < row["tune/reward"] < 5.0


def test_judges_hold_a_batch_of_images_at_a_time(root, monkeypatch):
    monkeypatch.setattr(judges, "PIXELS_AT_A_TIME", 2 * 32 * 32)
    reward = RewardModel.from_pretrained(finetune_generator.STUDENT, batch_size=2)
    cpu, teacher = torch.device("cpu"), finetune_generator.TEACHER
    alive: list[weakref.ref] = []
    most = 0

    def images(part: range) -> Iterator[np.ndarray]:
        nonlocal most
        for index in part:
            image = np.full((32, 32, 3), index, np.uint8)
            alive.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in alive))
            yield image

    found = judges.judge_samples(
        {
            "reward": reward_judge(reward),
            "panel": panel_judge(teacher, 1, 5, (32, 32), cpu, "float32"),
            "oracle": oracle_judge(reward.dimensions),
        },
        ["a red circle at the top left"] * 8,
        images,
    )
    assert [scores.shape for scores in found.values()] == [(8, 4)] * 3
    assert len(alive) == 24 and most <= 3, "two of a batch, and the next"


def test_weights_of_unknown_dimensions_are_refused(root):
    with pytest.raises(UserError, match="weights"):
        finetune_generator.run(config(weights={"beauty": 1.0}))
    assert not OUTPUT.exists()


def test_too_few_prompts_are_refused(root):
    with pytest.raises(UserError, match="generator_train"):
        finetune_generator.run(config(watch={"num_prompts": 6}))
