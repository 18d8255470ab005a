"""How well a tiny student learns to compare prompt and image in one token, by layout of its layers.

    python benchmarks/one_token.py hybrid
    python benchmarks/one_token.py table

Each variant is pretrained by the profile full for a budget of CPU seconds, then trained to give the
world's generic scores of all dimensions in one forward pass for another budget. Of held-out images,
pairs with different scores are ordered by the expected scores. Results are kept in one_token.json.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from zreward_core.config import merge, read_params
from zreward_core.models.backbone import Backbone
from zreward_core.models.scorer import student_scores
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.schemas import read_json, read_table, write_json
from zreward_core.stages.base_vlm import WORLD, Config, backward_by_length, load_examples
from zreward_core.training.optimizers import make_optimizers, set_rates, trapezoid
from zreward_core.training.pretraining import (
    Example,
    TrainingSequence,
    generic_score,
    sample_sequence,
    score_at_once,
    vocabulary,
)
from zreward_core.world.inspection import INSPECTIONS

VARIANTS: dict[str, dict[str, Any]] = {
    "hybrid": {"tiny": {"full_attention_interval": 4}, "pretraining": {"verdict_share": 0.0}},
    "half": {"tiny": {"full_attention_interval": 2}, "pretraining": {"verdict_share": 0.0}},
    "full": {"pretraining": {"verdict_share": 0.0}},
    "full_verdicts_20": {"pretraining": {"verdict_share": 0.2}},
    "full_verdicts_40": {"pretraining": {"verdict_share": 0.4}},
}
"""Changes of the student's settings in params/full.yaml."""
PRETRAINING_SECONDS, TRAINING_SECONDS = 300, 200
LEARNING_RATE = 2e-3
BATCH, SEED, NUM_PAIRS = 64, 17, 20_000
RESULTS = Path(__file__).with_name("one_token.json")


def main(name: str) -> None:
    """Train and measure a variant, or print the table."""
    if name != "table":
        tried = read_json(RESULTS) if RESULTS.is_file() else []
        rows = [row for row in tried if row["variant"] != name]
        write_json([*rows, {"variant": name} | try_out(VARIANTS[name])], RESULTS)
    print(pd.DataFrame(read_json(RESULTS)).to_string(index=False, float_format="%.3f"))


def try_out(change: dict[str, Any]) -> dict[str, float]:
    """Steps within the budgets, and the share of pairs ordered correctly by dimension."""
    params = read_params(Path("params/full.yaml"))["base_vlm"]
    config = Config(seed=SEED, **merge(params, {"student": change}))
    base, rubric = config.student, load_rubric()
    assert base.tiny is not None and base.pretraining is not None
    curriculum, rate = base.pretraining, base.pretraining.learning_rate
    backbone = build_backbone(base.tiny, vocabulary(), rubric, config.prompt, SEED * 10)
    table = read_table(WORLD / "inspections.parquet", INSPECTIONS)
    train, held_out = load_examples(backbone, table)
    names, exact = rubric.names, np.zeros(len(rubric.names))

    def pretraining(example: Example, progress: float, rng: np.random.Generator) -> Any:
        return sample_sequence(backbone, example, curriculum, names, progress, rng)

    def scores(example: Example, progress: float, rng: np.random.Generator) -> Any:
        return score_at_once(backbone, example, [[name] for name in names], exact)

    steps = {
        "pretraining steps": steps_of(backbone, train, pretraining, PRETRAINING_SECONDS, rate),
        "training steps": steps_of(backbone, train, scores, TRAINING_SECONDS, LEARNING_RATE),
    }
    return steps | ordered(backbone, held_out, names)


def steps_of(
    backbone: Backbone,
    examples: list[Example],
    make: Callable[[Example, float, np.random.Generator], TrainingSequence],
    seconds: float,
    learning_rate: float,
) -> int:
    """Train for some CPU seconds; returns the number of steps."""
    backbone.train_mode(lora=None)
    optimizers, began, step = (
        make_optimizers(backbone.network, learning_rate),
        time.process_time(),
        0,
    )
    while (progress := (time.process_time() - began) / seconds) < 1:
        rng = np.random.default_rng([SEED, step])
        batch = [examples[i] for i in rng.integers(len(examples), size=BATCH)]
        sequences = [make(example, progress, rng) for example in batch]
        backward_by_length(backbone, sequences, [example.image for example in batch], 2)
        torch.nn.utils.clip_grad_norm_(backbone.trainable(), 1.0)
        warm = min(1.0, (step + 1) / 50)
        set_rates(optimizers, learning_rate * warm * trapezoid(int(progress * 1000), 1000))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
    backbone.network.eval()
    return step


@torch.no_grad()
def ordered(backbone: Backbone, examples: list[Example], names: list[str]) -> dict[str, float]:
    """Share of pairs of images with different generic scores that are ordered correctly."""
    parts = []
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        log_probs, _ = student_scores(backbone, [e.prompt for e in batch], [e.image for e in batch])
        parts.append(log_probs.exp() @ backbone.levels.float())
    predicted_ND = torch.cat(parts).numpy()
    true_ND = np.array([[generic_score(n, e.inspection[n]) for n in names] for e in examples])
    first, second = np.random.default_rng(0).integers(len(examples), size=(2, NUM_PAIRS))
    result = {}
    for d, name in enumerate(names):
        truth = np.sign(true_ND[first, d] - true_ND[second, d])
        found = np.sign(predicted_ND[first, d] - predicted_ND[second, d])
        result[name] = float((truth == found)[truth != 0].mean())
    return result


if __name__ == "__main__":
    main(sys.argv[1])
