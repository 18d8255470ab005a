"""Supervised cross-entropies."""

import pytest
import torch

from zreward_core.losses.sft import score_cross_entropy, token_cross_entropy

BOTH = torch.tensor([True, True])


def test_score_cross_entropy_by_hand():
    log_probs = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).log()
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    expected = -(torch.tensor(0.5).log() + 0.5 * torch.tensor([0.3, 0.5]).log().sum()) / 2
    torch.testing.assert_close(score_cross_entropy(log_probs, target, BOTH, 2), expected)


def test_score_cross_entropy_is_torchs():
    logits = torch.randn(7, 5)
    target = torch.randn(7, 5).softmax(-1)
    got = score_cross_entropy(logits.log_softmax(-1), target, torch.ones(7, dtype=torch.bool), 7)
    torch.testing.assert_close(got, torch.nn.functional.cross_entropy(logits, target))


def test_token_cross_entropy_by_hand():
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -torch.inf]])
    mask = torch.tensor([[True, True], [True, False]])
    assert token_cross_entropy(log_probs, mask, 3).item() == pytest.approx(2.0)


def test_score_cross_entropy_raises_the_annotated_level():
    logits = torch.zeros(1, 3, requires_grad=True)
    target = torch.tensor([[0.0, 1.0, 0.0]])
    score_cross_entropy(logits.log_softmax(-1), target, torch.tensor([True]), 1).backward()
    torch.testing.assert_close(logits.grad, 1 / 3 - target)


def test_empty_mask_is_zero_and_runs_backward():
    values = torch.full((2, 3), -torch.inf, requires_grad=True)
    target, nothing = torch.full((2, 3), 1 / 3), torch.zeros(2, 3, dtype=torch.bool)
    losses = (
        score_cross_entropy(values, target, nothing[:, 0], 0),
        token_cross_entropy(values, nothing, 0),
    )
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0.0, 0.0]
    assert values.grad.tolist() == [[0.0] * 3] * 2


def test_halves_add_up_to_the_whole():
    log_probs, target = torch.randn(6, 5).log_softmax(-1), torch.randn(6, 5).softmax(-1)
    items, tokens = torch.tensor([1, 0, 1, 1, 1, 0]).bool(), torch.rand(6, 5) > 0.3

    def loss(rows: slice) -> torch.Tensor:
        scores = score_cross_entropy(log_probs[rows], target[rows], items[rows], 4)
        return scores + token_cross_entropy(log_probs[rows], tokens[rows], tokens.sum())

    torch.testing.assert_close(loss(slice(0, 2)) + loss(slice(2, 6)), loss(slice(None)))
