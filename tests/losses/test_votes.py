"""Rewards and losses of pairs by votes."""

import pytest
import torch

from zreward_core.losses.gdso import gap_errors, pairwise_loss, pairwise_reward, pointwise_loss
from zreward_core.losses.votes import vote_errors, vote_loss, vote_reward

SPAN, MARGIN = 4.0, 0.75
MEANS = torch.tensor([[[4.0, 3.0], [2.5, 3.5]]])  # gaps 1.5, .5 and .5, -.5 of the winner's outputs
WON, TIED = torch.tensor([False]), torch.tensor([True])


def random_means(num_pairs: int = 6, group: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + 4 * torch.rand(num_pairs, 2, group, generator=generator, dtype=torch.float64)


def test_errors_by_hand():
    won = torch.tensor([[[[0.0, 0.25], [0.25, 1.25]], [[0.0, 0.25], [0.25, 1.25]]]])
    torch.testing.assert_close(vote_errors(MEANS, WON, MARGIN), won)
    tied = torch.tensor([[[[1.5, 0.5], [0.5, 0.5]], [[1.5, 0.5], [0.5, 0.5]]]])
    torch.testing.assert_close(vote_errors(MEANS, TIED, MARGIN), tied)


def test_reward_and_loss_by_hand():
    won = 1 - torch.tensor([[[0.125, 0.75], [0.125, 0.75]]]) / 4
    torch.testing.assert_close(vote_reward(MEANS, WON, MARGIN, SPAN), won)
    tied = 1 - torch.tensor([[[1.0, 0.5], [1.0, 0.5]]]) / 4
    torch.testing.assert_close(vote_reward(MEANS, TIED, MARGIN, SPAN), tied)
    # errors 0 + .25 + .25 + 1.25 on each side, over 2 G^2 span = 32
    assert vote_loss(MEANS, WON, MARGIN, SPAN, 1).item() == pytest.approx(3.5 / 32)
    assert vote_loss(MEANS, TIED, MARGIN, SPAN, 1).item() == pytest.approx(6.0 / 32)


def test_a_tie_is_an_annotated_gap_of_zero():
    means, ties = random_means(), torch.ones(6, dtype=torch.bool)
    equal = torch.full((6, 2), 3.0, dtype=torch.float64)
    torch.testing.assert_close(vote_errors(means, ties, MARGIN), gap_errors(means, equal))
    expected = pairwise_reward(means, equal, SPAN)
    torch.testing.assert_close(vote_reward(means, ties, MARGIN, SPAN), expected)
    expected = pairwise_loss(means, equal, SPAN, 6)
    torch.testing.assert_close(vote_loss(means, ties, MARGIN, SPAN, 6), expected)


def test_the_loss_is_one_minus_the_mean_reward():
    means, ties = random_means(), torch.tensor([True, False] * 3)
    expected = 1 - vote_reward(means, ties, MARGIN, SPAN).mean()
    torch.testing.assert_close(vote_loss(means, ties, MARGIN, SPAN, 6), expected)


def test_a_win_widens_a_small_gap_and_leaves_a_wide_one():
    means = torch.tensor([[[3.0, 5.0], [3.0, 3.0]]], requires_grad=True)
    vote_loss(means, WON, MARGIN, SPAN, 1).backward()
    assert means.grad[0, 0].tolist()[0] < 0 and means.grad[0, 0].tolist()[1] == 0
    assert (means.grad[0, 1] > 0).all()


def test_a_tie_narrows_the_gap_from_either_side():
    means = torch.tensor([[[3.0], [2.0]], [[2.0], [3.0]]], requires_grad=True)
    vote_loss(means, torch.tensor([True, True]), MARGIN, SPAN, 2).backward()
    assert (means.grad.sign() == torch.tensor([[[1.0], [-1.0]], [[-1.0], [1.0]]])).all()


def test_no_pairs_is_zero_and_runs_backward():
    means = torch.zeros(0, 2, 3, requires_grad=True)
    loss = vote_loss(means, torch.zeros(0, dtype=torch.bool), MARGIN, SPAN, 0)
    loss.backward()
    assert loss.item() == 0.0


def test_halves_add_up_to_the_whole():
    means, ties = random_means(), torch.tensor([True, False, False] * 2)
    parts = [vote_loss(means[s], ties[s], MARGIN, SPAN, 6) for s in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(sum(parts), vote_loss(means, ties, MARGIN, SPAN, 6))


def test_rewards_carry_no_gradient_and_an_output_without_a_score_has_none():
    means = torch.tensor([[[3.0, torch.nan], [2.0, 2.5]]], requires_grad=True)
    rewards = vote_reward(means, WON, MARGIN, SPAN)
    assert not rewards.requires_grad
    assert rewards[0, 0].isnan().tolist() == [False, True]
    torch.testing.assert_close(rewards[0, 1], torch.tensor([1.0, 1 - 0.25 / 4]))


def test_a_pair_without_scores_adds_nothing_to_the_pointwise_loss():
    logits = torch.zeros(2, 2, 3, 5, requires_grad=True)
    target = torch.zeros(2, 2, 5)
    target[0, :, 2] = 1.0
    loss = pointwise_loss(logits.log_softmax(-1), target, 1)
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(5.0).log().item())
    assert logits.grad[0].abs().sum() > 0 and logits.grad[1].abs().sum() == 0
