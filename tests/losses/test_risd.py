"""Equation 15."""

import pytest
import torch

from zreward_core.losses.risd import risd_loss

BOTH = torch.tensor([True, True])


def test_risd_by_hand():
    teacher = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    student = torch.tensor([[0.25, 0.75, 0.0], [0.25, 0.25, 0.5]]).log()
    # .5 log 2 + .5 log(2/3), and log 2
    expected = (0.5 * 0.6931472 - 0.5 * 0.4054651 + 0.6931472) / 2
    assert risd_loss(student, teacher, BOTH, 2).item() == pytest.approx(expected)


def test_risd_is_torchs_kl_and_zero_for_equals():
    teacher, student = torch.randn(6, 4, 5).softmax(-1), torch.randn(6, 4, 5).log_softmax(-1)
    everything = torch.ones(6, 4, dtype=torch.bool)
    reference = torch.nn.functional.kl_div(student, teacher, reduction="sum") / 24
    torch.testing.assert_close(risd_loss(student, teacher, everything, 24), reference)
    assert risd_loss(teacher.log(), teacher, everything, 24).item() == pytest.approx(0, abs=1e-6)


def test_risd_gradient_moves_the_student_to_the_teacher():
    teacher = torch.tensor([[0.1, 0.2, 0.7]])
    logits = torch.zeros(1, 3, requires_grad=True)
    risd_loss(logits.log_softmax(-1), teacher, torch.tensor([True]), 1).backward()
    torch.testing.assert_close(logits.grad, 1 / 3 - teacher)


def test_the_teacher_carries_no_gradient():
    teacher = torch.tensor([[0.1, 0.2, 0.7]], requires_grad=True)
    logits = torch.zeros(1, 3, requires_grad=True)
    risd_loss(logits.log_softmax(-1), teacher, torch.tensor([True]), 1).backward()
    assert teacher.grad is None
    assert logits.grad.abs().max() > 0


def test_empty_mask_is_zero_and_runs_backward():
    student = torch.full((2, 3), -torch.inf, requires_grad=True)
    loss = risd_loss(student, torch.full((2, 3), 1 / 3), torch.tensor([False, False]), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.tolist() == [[0.0] * 3] * 2


def test_halves_add_up_to_the_whole():
    teacher, student = torch.randn(6, 5).softmax(-1), torch.randn(6, 5).log_softmax(-1)
    mask, count = torch.tensor([1, 0, 1, 1, 1, 0]).bool(), torch.tensor(4.0)
    halves = [slice(0, 2), slice(2, 6)]
    parts = sum(risd_loss(student[rows], teacher[rows], mask[rows], count) for rows in halves)
    torch.testing.assert_close(parts, risd_loss(student, teacher, mask, count))
