"""Score distributions, expected scores and token log-probabilities from logits."""

import pytest
import torch

from zreward_core.models.score_decoder import expected_score, score_log_probs, token_log_probs

LEVELS = torch.tensor([1.0, 2.0, 5.0])
LABEL_IDS = torch.tensor([4, 0, 2])


def test_score_distribution_by_hand():
    logits = torch.tensor([3.0, 100.0, 1.0, 2.0, 5.0]).log()
    log_probs, mass = score_log_probs(logits, LABEL_IDS)
    torch.testing.assert_close(log_probs.exp(), torch.tensor([5 / 9, 3 / 9, 1 / 9]))
    assert mass.item() == pytest.approx(9 / 111)


def test_score_distribution_is_computed_in_float32():
    logits = torch.randn(6, 5, dtype=torch.bfloat16)
    found = score_log_probs(logits, LABEL_IDS)
    expected = score_log_probs(logits.float(), LABEL_IDS)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_expected_score_by_hand():
    probs = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    assert expected_score(probs, LEVELS).tolist() == [2.25, 2.0]


def test_expected_score_keeps_its_precision_under_autocast():
    probs = torch.randn(64, 3).softmax(-1).requires_grad_()
    expected = expected_score(probs, LEVELS)
    with torch.autocast("cpu", torch.bfloat16):
        found = expected_score(probs, LEVELS)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    found.sum().backward()
    assert torch.equal(probs.grad, LEVELS.expand(64, 3))


def test_token_log_probs_by_hand():
    logits = torch.tensor([[3.0, 100.0, 1.0, 2.0, 5.0]]).log()
    found = token_log_probs(logits, torch.tensor([2]), forbidden=[1, 4], temperature=0.5)
    assert found.exp().item() == pytest.approx(1 / (9 + 1 + 4))  # squared: a temperature of 1/2
