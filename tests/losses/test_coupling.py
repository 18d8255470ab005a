"""The coupling loss."""

import pytest
import torch

from zreward_core.losses.coupling import coupling_loss


def test_coupling_loss_by_hand():
    probs = torch.tensor([[[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.4, 0.6]]]])  # [1, 2, 2, 2]
    own = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # of the winner level 0, of the loser level 1
    terms = torch.tensor([0.1, 0.5, 0.2, 0.4]).log()  # the winner's image is given level 1, ...
    assert coupling_loss(probs.log(), own, 1).item() == pytest.approx(-terms.mean().item())


def test_a_pair_without_scores_adds_nothing():
    log_probs = torch.randn(2, 2, 3, 4).log_softmax(-1)
    target = torch.nn.functional.one_hot(torch.tensor([[0, 3], [1, 2]]), 4).float()
    target[1] = 0.0
    alone = coupling_loss(log_probs[:1], target[:1], 1)
    torch.testing.assert_close(coupling_loss(log_probs, target, 1), alone)
