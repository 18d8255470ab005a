"""Distillation: batches cover the data, gradients add up, the loss is the divergence."""

import numpy as np
import pytest
import torch

from tests.models.conftest import PROMPT, SIZES
from zreward_core.models.backbones import Backbone
from zreward_core.models.scorer import student_scores
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import Dimension, Rubric
from zreward_core.stages.train_risd import Labelled, distil, epoch_batch


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
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    probs = torch.softmax(torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)), -1)
    mask = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    images = [backbone.pixels.prepare(picture) for picture in pictures]
    return Labelled(["a red circle", "a", "red", "circle"], images, probs, mask)


def test_an_epoch_sees_every_picture_once() -> None:
    seen = [i for step in range(5) for i in epoch_batch(23, 4, seed=1, step=step)]
    assert len(seen) == len(set(seen)) == 20
    assert epoch_batch(23, 4, seed=1, step=5) != epoch_batch(23, 4, seed=1, step=0)
    assert epoch_batch(23, 4, seed=1, step=7) == epoch_batch(23, 4, seed=1, step=7)
    assert sorted(epoch_batch(3, 64, seed=1, step=9)) == [0, 1, 2]


def test_loss_is_the_mean_divergence_over_labelled_dimensions(
    backbone: Backbone, data: Labelled
) -> None:
    with torch.no_grad():
        log_probs, _ = student_scores(backbone, data.prompts, data.images)
        loss, mass, error = distil(backbone, data, [0, 1, 2, 3], 6.0)
    divergence = (data.probs_NDS * (data.probs_NDS.log() - log_probs)).sum(-1)
    assert loss.item() == pytest.approx(divergence[data.mask_ND].mean().item(), rel=1e-4)
    assert error > 0 and mass > 0


def test_gradients_of_micro_batches_add_up_to_the_whole(backbone: Backbone, data: Labelled) -> None:
    found = []
    for parts in ([[0, 1, 2, 3]], [[0, 1], [2], [3]]):
        for part in parts:
            loss, mass, _ = distil(backbone, data, part, 6.0)
            (loss + 0.1 * mass).backward()
        found.append([p.grad.clone() for p in backbone.trainable() if p.grad is not None])
        backbone.network.zero_grad()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
