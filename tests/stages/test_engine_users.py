"""Every other stage whose traces an engine can sample asks the engine for them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from tests.sampling_server import SamplingServer, sampling_server
from tests.stages.training_root import tiny
from zreward_core.images import ImageStore
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.loading import load_backbone
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.engine_settings import SAMPLING
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, read_table
from zreward_core.stages import (
    predict,
    trace_faithfulness,
    train_gdso_coupled,
    train_grpo,
    train_opd,
    train_rewarddance,
)
from zreward_core.stages._judging import Judging

BASE = Path("data/base_vlm/teacher")
LORA = LoraSettings(rank=2, alpha=16)
LOOP: dict[str, Any] = {"seed": 1, "steps": 2, "lora": LORA, "group_size": 2}
PAIRS: dict[str, Any] = LOOP | {"pairs_per_step": 2, "micro_batch_pairs": 2}
RATES: dict[str, Any] = {"learning_rate": 0.03, "warmup_steps": 0}
ON_POLICY = {
    "train_gdso_coupled": (train_gdso_coupled, PAIRS | RATES),
    "train_grpo": (train_grpo, PAIRS | RATES),
    "train_opd": (train_opd, LOOP | RATES | {"images_per_step": 4}),
}
ELSEWHERE = {"label", "train_gdso", "evaluate"}
"""Tested in test_engine.py, or below as the stage that calls predict's function."""


@pytest.fixture
def root(training_root: Path) -> Iterator[Path]:
    yield training_root
    Path("launch.yaml").unlink(missing_ok=True)
    for folder in ("train_gdso", "train_opd", "train_grpo", "train_gdso_coupled"):
        shutil.rmtree(Path("data") / folder, ignore_errors=True)


@pytest.fixture
def server(root: Path) -> Iterator[SamplingServer]:
    """A server of the teacher's base, which all stages join."""
    with sampling_server(load_backbone(BASE)) as started:
        engines = {"joined": {"kind": "vllm", "url": started.url, "concurrency": 4}}
        content = {"engines": engines, "rollouts": dict.fromkeys(SAMPLING, "joined")}
        Path("launch.yaml").write_text(yaml.safe_dump(content))
        yield started


def test_every_stage_with_an_engine_is_tested() -> None:
    here = {"predict", "trace_faithfulness", "train_rewarddance", *ON_POLICY}
    assert here | ELSEWHERE == set(SAMPLING)


@pytest.mark.parametrize("stage", ON_POLICY)
def test_policies_are_sampled_with_the_adapter_of_each_step(
    server: SamplingServer, stage: str
) -> None:
    module, settings = ON_POLICY[stage]
    run: ModuleType = module
    if stage == "train_opd":
        server.base = server.models[server.name] = load_backbone(train_opd.BASE)
        tiny(7).save(train_opd.TEACHER, {})
    run.run(run.Config(**settings))
    history = read_history(run.OUTPUT / "history.jsonl")
    assert len(server.loaded) == len(set(server.loaded)) == 3  # two steps, and after the last
    assert list(server.models) == [server.name]
    assert len(server.requests) == 3 * 4
    assert {request["model"] for request in server.requests} == set(server.loaded)
    assert all(row["engine/largest_gap"] < 1e-3 for row in history)


def test_rationales_are_sampled(server: SamplingServer) -> None:
    config = train_rewarddance.Config(seed=1, steps=0, num_chains=2, shard_items=5)
    train_rewarddance.run(config)
    chains = pd.read_parquet(train_rewarddance.OUTPUT / "chains.parquet")
    assert len(server.requests) == len(chains) == 12
    assert {request["sampling_params"]["n"] for request in server.requests} == {2}
    assert {request["model"] for request in server.requests} == {server.name}


def test_traces_that_are_perturbed_are_sampled(server: SamplingServer) -> None:
    trace_faithfulness.run(trace_faithfulness.Config(seed=1, model=BASE, num_pairs=10))
    scores = pd.read_parquet(trace_faithfulness.OUTPUT / "scores.parquet")
    assert len(server.requests) == len(scores) == 4


def test_predictions_are_sampled(server: SamplingServer) -> None:
    predict.run(predict.Config(seed=1, model=BASE, reasoning=True))
    found = pd.read_parquet(predict.OUTPUT / "predictions.parquet")
    assert len(server.requests) == len(found) == 4


def test_evaluate_judges_with_the_base_and_the_teacher_on_one_server(
    server: SamplingServer,
) -> None:
    model = load_backbone(BASE)
    model.train_mode(LORA, seed=3)
    with torch.no_grad():
        for parameter in model.trainable():
            parameter.add_(0.2)
    trained = Path("data/train_gdso/teacher")
    model.save(trained, {})
    items = read_table(predict.ITEMS_FILE, ITEMS)
    items = items[items["split"] == "test"]
    config, checkpoint = Judging(seed=1), Checkpoint("evaluate", Judging(seed=1), [BASE])
    for name, folder in (("zero_shot_reasoning", BASE), ("teacher", trained)):
        images = ImageStore(*predict.IMAGES)
        predict.predict_reasoning(config, checkpoint, name, folder, items, images)
    checkpoint.clear()
    asked = [request["model"] for request in server.requests]
    assert asked == [server.name] * 4 + server.loaded * 4 and len(server.loaded) == 1
    assert list(server.models) == [server.name]
