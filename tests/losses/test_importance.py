"""Truncated importance weights, and the losses under them."""

import math

import pytest
import torch

from zreward_core.losses.grpo import grpo_loss, kl_to_reference, policy_gradient_loss
from zreward_core.losses.importance import truncated_importance_weights
from zreward_core.losses.opd import opd_loss


def test_by_hand() -> None:
    ratios = torch.tensor([0.0, math.log(0.5), math.log(1.5), math.log(8.0)], requires_grad=True)
    weights = truncated_importance_weights(ratios)
    assert weights.tolist() == pytest.approx([1.0, 0.5, 1.5, 2.0])
    assert not weights.requires_grad
    assert truncated_importance_weights(ratios, 10.0)[3].item() == pytest.approx(8.0)


def test_the_losses_weigh_each_token() -> None:
    log_probs = torch.tensor([[-1.0, -2.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    weights = torch.tensor([[0.5, 2.0, 1.0]])
    loss = policy_gradient_loss(log_probs, torch.tensor([3.0]), mask, 1, weights)
    assert loss.item() == pytest.approx(3.0 * (0.5 * 1.0 + 2.0 * 2.0))
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert gradient.tolist() == [[-1.5, -6.0, 0.0]]
    reference = log_probs.detach() + torch.tensor([[0.0, 1.0, 5.0]])
    kl = kl_to_reference(log_probs, reference, mask, 1, weights)
    assert kl.item() == pytest.approx(2.0 * (math.e - 2.0))
    advantages = torch.tensor([[1.0, -1.0, math.nan]])
    opd = opd_loss(log_probs, advantages, mask, 1, weights)
    assert opd.item() == pytest.approx((0.5 * 1.0 - 2.0 * 2.0) / 2)


def test_weights_of_one_change_nothing() -> None:
    log_probs, reference = torch.randn(2, 3, 4).unbind()
    advantages, mask = torch.randn(3), torch.rand(3, 4) < 0.7
    plain = grpo_loss(log_probs, reference, advantages, mask, 0.1, 3)
    assert torch.equal(
        plain, grpo_loss(log_probs, reference, advantages, mask, 0.1, 3, torch.ones(3, 4))
    )


def test_the_expectation_is_that_of_the_policy() -> None:
    """Over all tokens, weighted by the sampler's probabilities, the gradient is the policy's."""
    logits = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    sampler = torch.softmax(torch.tensor([0.1, 0.1, 0.4]), -1)
    rewards, policy = torch.tensor([1.0, -2.0, 0.5]), torch.log_softmax(logits, -1)
    expected = torch.autograd.grad((policy.exp() * rewards).sum(), logits, retain_graph=True)[0]
    weights = truncated_importance_weights(policy - sampler.log())[:, None]
    everything = torch.ones(3, 1, dtype=torch.bool)
    total = torch.zeros(3)
    for token in range(3):
        loss = policy_gradient_loss(
            policy[token, None, None],
            rewards[token, None],
            everything[:1],
            1,
            weights[token, None],
        )
        total += sampler[token] * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    assert torch.allclose(-total, expected, atol=1e-6)
