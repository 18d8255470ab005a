"""Distillation: the loss is the divergence, gradients accumulate, resumption."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.models.conftest import PROMPT, SIZES
from tests.stages.training_root import SUPERVISED, run_whole_and_killed
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.scorer import student_scores
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import Dimension, Rubric
from zreward_core.stages import train_risd
from zreward_core.stages.train_risd import Config, hard_scores
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.samplers import Labelled

BATCH = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    names = ["alignment", "realism"]
    dimensions = [Dimension(name=n, title=n, question=n, levels={}) for n in names]
    rubric = Rubric(name="r", levels=[1, 2, 3], labels=["1", "2", "3"], dimensions=dimensions)
    built = build_backbone(SIZES, ["a red circle"], rubric, PROMPT, seed=5)
    built.train_mode(lora=None)
    return built


@pytest.fixture(scope="module")
def data(backbone: Backbone) -> Labelled:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    probs = torch.softmax(torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)), -1)
    mask = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    images = [backbone.pixels.prepare(image) for image in images]
    return Labelled(["a red circle", "a", "red", "circle"], images, probs, mask)


def test_loss_is_the_mean_divergence_over_labelled_dimensions(
    backbone: Backbone, data: Labelled
) -> None:
    with torch.no_grad():
        log_probs, _ = student_scores(backbone, data.prompts, data.images)
        loss, sums = one_token_loss(backbone, data, risd_loss, 0.1, BATCH, BATCH)
    kl_ND = (data.probs_NDS * (data.probs_NDS.log() - log_probs)).sum(-1)
    expected = kl_ND[data.mask_ND].mean().item()
    assert sums["loss/total"] == pytest.approx(expected, rel=1e-4)
    assert sums["score/error"] > 0
    assert loss.item() > sums["loss/total"]  # by the mass term


def test_gradients_of_micro_batches_add_up_to_the_whole(backbone: Backbone, data: Labelled) -> None:
    found = []
    for parts in ([[0, 1, 2, 3]], [[0, 1], [2], [3]]):
        for part in parts:
            loss, _ = one_token_loss(backbone, data, risd_loss, 0.1, part, BATCH)
            loss.backward()
        found.append([p.grad.clone() for p in backbone.trainable() if p.grad is not None])
        backbone.network.zero_grad()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_hard_scores_are_the_level_nearest_to_the_mean() -> None:
    probs = torch.tensor([[0.5, 0.0, 0.5], [0.1, 0.2, 0.7], [0.25, 0.75, 0.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert torch.equal(hard_scores(probs, torch.tensor([1.0, 2.0, 3.0])), expected)


@pytest.mark.parametrize("changes", [{"optimizer": "muon"}, {"targets": "score"}])
def test_a_killed_run_resumes_to_the_same_student(training_root, monkeypatch, changes) -> None:
    run_whole_and_killed(train_risd, Config(seed=1, **SUPERVISED, **changes), monkeypatch)


def test_muon_rejects_lora() -> None:
    with pytest.raises(ValidationError, match=r"use adamw with lora"):
        Config(seed=1, **SUPERVISED, optimizer="muon", lora={"rank": 2, "alpha": 2})
