"""Equations 18 and 19."""

import pytest
import torch

from zreward_core.losses.opd import distillation_advantages, opd_loss


def test_opd_by_hand():
    teacher, old = torch.tensor([[-1.0, -3.0], [-1.0, 0.0]]), torch.tensor([[-2.0, -1.0]] * 2)
    advantages = distillation_advantages(teacher, old)
    assert advantages.tolist() == [[1.0, -2.0], [1.0, 1.0]]
    log_probs = torch.tensor([[-2.0, -1.0], [-4.0, -5.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    # first output: -(-2 + 2) / 2 = 0; second: -(-4) / 1 = 4
    loss = opd_loss(log_probs, advantages, mask, 2)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    # a descent step raises tokens that are likelier under the teacher and lowers the others
    expected = torch.tensor([[-0.25, 0.5], [-0.5, 0.0]])
    torch.testing.assert_close(log_probs.grad, expected)


def test_opd_is_zero_for_equal_policies():
    same = torch.randn(3, 4)
    loss = opd_loss(same, distillation_advantages(same, same), torch.ones(3, 4).bool(), 3)
    assert loss.item() == 0.0


def test_advantages_carry_no_gradient():
    teacher, old = torch.randn(2, 3, 4).unbind()
    assert not distillation_advantages(teacher.requires_grad_(), old.requires_grad_()).requires_grad
    log_probs, advantages = (
        torch.randn(3, 4, requires_grad=True),
        torch.randn(3, 4).requires_grad_(),
    )
    opd_loss(log_probs, advantages, torch.ones(3, 4).bool(), 3).backward()
    assert advantages.grad is None
    torch.testing.assert_close(log_probs.grad, -advantages.detach() / 12)


def test_empty_mask_is_zero_and_runs_backward():
    values = torch.full((2, 3), -torch.inf, requires_grad=True)
    loss = opd_loss(values, torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad.tolist() == [[0.0] * 3] * 2


def test_masked_values_may_be_infinite():
    impossible = torch.tensor([[-1.0, -torch.inf]])
    values = impossible.clone().requires_grad_()
    advantages = distillation_advantages(impossible + torch.tensor([[0.5, 0.0]]), impossible)
    assert advantages[0, 1].isnan()
    opd_loss(values, advantages, torch.tensor([[True, False]]), 1).backward()
    assert values.grad.tolist() == [[-0.5, 0.0]]


def test_halves_add_up_to_the_whole():
    log_probs, advantages, mask = torch.randn(6, 5), torch.randn(6, 5), torch.rand(6, 5) > 0.3
    halves = [slice(0, 2), slice(2, 6)]
    parts = sum(opd_loss(log_probs[rows], advantages[rows], mask[rows], 6) for rows in halves)
    torch.testing.assert_close(parts, opd_loss(log_probs, advantages, mask, 6))
