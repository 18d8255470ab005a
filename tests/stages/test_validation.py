"""Metrics on the validation split while a model is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.stages.training_root import ON_POLICY, SUPERVISED, tiny, trainable_root, training_root
from zreward_core.config import UserError
from zreward_core.evaluation.report import evaluate_predictions
from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.progress import LIVE, read_history
from zreward_core.schemas import ITEMS, PAIRS, read_table, write_table
from zreward_core.stages import (
    _training,
    train_gdso,
    train_gdso_coupled,
    train_grpo,
    train_opd,
    train_risd,
    train_sft,
)
from zreward_core.stages._judging import Judging, read_predictions
from zreward_core.stages._validation import ITEMS_FILE, PAIRS_FILE, Validation, measured
from zreward_core.stages.predict import predict_at_once

__all__ = ["trainable_root", "training_root"]
DISTILLED = {"steps": 4, "images_per_step": 2, "group_size": 2, "checkpoint_every": 2}
NAMES = {"validation/hpa", "validation/plcc", "validation/nll"}


@pytest.fixture
def with_split(training_root: Path):
    """The test split is called validation."""
    kept = {path: path.read_bytes() for path in (ITEMS_FILE, PAIRS_FILE)}
    for path, schema in ((ITEMS_FILE, ITEMS), (PAIRS_FILE, PAIRS)):
        table = read_table(path, schema)
        table["split"] = table["split"].replace("test", "validation")
        write_table(table, path, schema)
    yield
    for path, content in kept.items():
        path.write_bytes(content)


def weights(stage) -> dict:
    (file,) = stage.OUTPUT.rglob("*.safetensors")
    return load_file(file)


def evaluated() -> dict:
    """Metrics of the trained student by the stage evaluate's functions."""
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    items = items[items["split"] == "validation"]
    pairs = pairs[pairs["split"] == "validation"]
    images = ImageStore(*_training.IMAGES)
    config, student = Judging(seed=1), train_risd.OUTPUT / "student"
    checkpoint = Checkpoint("evaluate", config, [student])
    shards = predict_at_once(config, checkpoint, "student", student, items, images)
    found = read_predictions(shards, items)
    checkpoint.clear()
    report = evaluate_predictions({"model": found}, items, pairs)["models"]["model"]["overall"]
    assert measured(found, items, pairs) == pytest.approx(
        {name: report[name] for name in ("hpa", "plcc", "nll")}
    )
    return report


def risd(**settings) -> list[dict]:
    train_risd.run(
        train_risd.Config(**{"seed": 1, "learning_rate": 0.05, **SUPERVISED, **settings})
    )
    return read_history(train_risd.OUTPUT / "history.jsonl")


@pytest.mark.parametrize(("stage", "settings"), [(train_gdso, ON_POLICY), (train_risd, SUPERVISED)])
def test_it_is_in_the_history_and_changes_no_weight(with_split, stage, settings) -> None:
    stage.run(stage.Config(seed=1, **settings))
    expected = weights(stage)
    stage.run(stage.Config(seed=1, validate_every=2, **settings))
    assert all((expected[name] == value).all() for name, value in weights(stage).items())
    history = read_history(stage.OUTPUT / "history.jsonl")
    measured_at = [row["step"] for row in history if set(row) >= NAMES]
    assert measured_at == [1, 3]
    assert all(row["validation/nll"] > 0 for row in history if set(row) >= NAMES)
    assert read_history(LIVE / f"{stage.OUTPUT.name}.jsonl") == history


def test_the_metrics_are_those_of_evaluation(with_split) -> None:
    history = risd(validate_every=5)
    report = evaluated()
    for name in ("hpa", "plcc", "nll"):
        assert history[-1][f"validation/{name}"] == pytest.approx(report[name], abs=1e-3)


def test_undefined_metrics_are_nan() -> None:
    items = pd.DataFrame(
        {"item_id": ["a"], "dimension": ["d"], "score": [1.0], "histogram": [np.array([1.0, 0.0])]}
    )
    found = pd.DataFrame(
        {"item_id": ["a"], "dimension": ["d"], "mean": [1.5], "probs": [[0.5, 0.5]]}
    )
    pairs = pd.DataFrame(columns=["winner", "loser", "dimension", "score_w", "score_l"])
    metrics = measured(found, items, pairs)
    assert np.isnan(metrics["hpa"]) and np.isnan(metrics["plcc"])
    assert metrics["nll"] == pytest.approx(np.log(2))


def test_the_best_weights_are_exported(with_split) -> None:
    history = risd(validate_every=1)
    found = [row["validation/nll"] for row in history]
    assert min(found) < found[-1] - 1e-3  # training overshoots at this rate
    assert evaluated()["nll"] == pytest.approx(found[-1], abs=1e-5)
    risd(validate_every=1, keep="best")
    assert evaluated()["nll"] == pytest.approx(min(found), abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (train_gdso, ON_POLICY),
        (train_gdso_coupled, ON_POLICY),
        (train_grpo, ON_POLICY),
        (train_opd, DISTILLED),
        (train_risd, SUPERVISED | {"steps": 4}),
        (train_sft, SUPERVISED | {"steps": 4}),
    ],
    ids=lambda value: value.OUTPUT.name if hasattr(value, "OUTPUT") else "",
)
def test_every_stage_exports_the_weights_of_its_lowest_nll(
    with_split, stage, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends after its third step, and is then resumed; the second one is the best."""
    if stage is train_opd and not train_opd.TEACHER.is_dir():
        tiny(7).save(train_opd.TEACHER, {})
    weights, nll, measure = [], iter([0.9, 0.5, 0.8, 0.8, 0.7]), Validation.measure

    def measured_as(self: Validation) -> dict[str, float]:
        metrics = measure(self)
        weights.append(self.backbone.snapshot())
        if len(weights) == 3:
            raise KeyboardInterrupt
        return metrics | {"nll": next(nll)}

    monkeypatch.setattr(Validation, "measure", measured_as)
    config = stage.Config(seed=1, **settings, validate_every=1, keep="best")
    with pytest.raises(KeyboardInterrupt):
        stage.run(config)
    stage.run(config)
    history = read_history(stage.OUTPUT / "history.jsonl")
    assert [row["validation/nll"] for row in history if set(row) >= NAMES][-2:] == [0.8, 0.8]
    (folder,) = (path for path in stage.OUTPUT.iterdir() if path.is_dir())
    exported = list(load_backbone(folder).network.parameters())
    assert all((a == b).all() for a, b in zip(exported, weights[1], strict=True))
    assert any((a != b).any() for a, b in zip(exported, weights[-1], strict=True))


@pytest.mark.parametrize(
    "stage", [train_gdso, train_gdso_coupled, train_grpo, train_opd, train_risd, train_sft]
)
def test_the_best_weights_need_a_measurement(stage) -> None:
    def config(**settings) -> Any:
        return stage.Config(seed=1, steps=4, keep="best", **settings)

    for every in (0, 5):
        with pytest.raises(ValidationError, match=rf"must be from 1 to 4, .* not {every}; or"):
            config(validate_every=every)
    assert config(validate_every=4).keep == "best"
    assert stage.Config(seed=1, steps=0, keep="best").steps == 0  # the base is exported
    assert stage.Config(seed=1, steps=4, validate_every=5).keep == "last"


def test_a_split_without_items_is_a_user_error(training_root) -> None:
    with pytest.raises(UserError, match="has no validation item with an image and scores"):
        risd(validate_every=1)
