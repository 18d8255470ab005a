"""The mass term."""

import math

import pytest
import torch

from zreward_core.losses.mass import mass_loss
from zreward_core.models.score_decoder import score_log_probs


def test_mass_loss_by_hand():
    assert mass_loss(torch.tensor([0.5, 1.0, 0.25]), 3).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("gap", [0.0, 20.0, 80.0])
def test_the_gradient_raises_the_score_tokens_however_small_their_mass(gap):
    logits = torch.tensor([[0.0, 0.0, gap]], requires_grad=True)
    mass_loss(score_log_probs(logits, torch.tensor([0, 1]))[1], 1).backward()
    others = torch.tensor([0.0, 0.0, gap]).softmax(-1)[2]
    expected = torch.tensor([[-others / 2, -others / 2, others]])
    torch.testing.assert_close(logits.grad, expected)


def test_no_items_are_zero_and_run_backward():
    mass = torch.zeros(0, requires_grad=True)
    loss = mass_loss(mass, 0)
    loss.backward()
    assert loss.item() == 0.0


def test_halves_add_up_to_the_whole():
    mass = torch.rand(6)
    parts = mass_loss(mass[:2], 6) + mass_loss(mass[2:], 6)
    torch.testing.assert_close(parts, mass_loss(mass, 6))
