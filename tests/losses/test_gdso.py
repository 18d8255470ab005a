"""Equations 7-14."""

import pytest
import torch

from zreward_core.losses.gdso import (
    annotated_gap,
    bradley_terry_loss,
    combined_reward,
    gdso_objective,
    pairwise_loss,
    pairwise_reward,
    pointwise_loss,
    pointwise_reward,
)

SPAN = 4.0
MEANS = torch.tensor([[[4.0, 3.0], [2.0, 2.5]]])  # one pair, two sides, G = 2
SCORES = torch.tensor([[4.5, 2.0]])


def random_pairs(num_pairs: int = 6, group: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    means = 1 + 4 * torch.rand(num_pairs, 2, group, generator=generator, dtype=torch.float64)
    scores = 1 + 4 * torch.rand(num_pairs, 2, generator=generator, dtype=torch.float64)
    return means, scores


def test_pointwise_reward_by_hand():
    expected = torch.tensor([[[1 - 0.5 / 4, 1 - 1.5 / 4], [1.0, 1 - 0.5 / 4]]])
    torch.testing.assert_close(pointwise_reward(MEANS, SCORES, SPAN), expected)


def test_pointwise_loss_by_hand():
    probs = torch.tensor([[[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]]])
    target = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    # -(log .5 + log .75 + log 1 + log .5) / 4; the level of probability 0 is not the target
    expected = -(2 * torch.tensor(0.5).log() + torch.tensor(0.75).log()) / 4
    torch.testing.assert_close(pointwise_loss(probs.log(), target, 1), expected)


def test_pointwise_loss_off_the_grid_is_shared():
    log_probs = torch.tensor([[0.2, 0.3, 0.5]]).log().expand(1, 2, 1, 3)
    target = torch.tensor([[[0.0, 0.25, 0.75], [0.0, 0.25, 0.75]]])
    expected = -(0.25 * torch.tensor(0.3).log() + 0.75 * torch.tensor(0.5).log())
    torch.testing.assert_close(pointwise_loss(log_probs, target, 1), expected)


def test_pointwise_loss_raises_the_annotated_level():
    logits = torch.zeros(1, 2, 3, 5, requires_grad=True)
    target = torch.zeros(1, 2, 5)
    target[..., 3] = 1.0
    pointwise_loss(logits.log_softmax(-1), target, 1).backward()
    assert (logits.grad[..., 3] < 0).all()
    assert (logits.grad[..., [0, 1, 2, 4]] > 0).all()


def test_annotated_gap_is_antisymmetric():
    assert annotated_gap(SCORES).tolist() == [[2.5, -2.5]]


def test_pairwise_reward_by_hand():
    # winner, first output: gaps 4 - 2 = 2 and 4 - 2.5 = 1.5 against 2.5: errors .5 and 1
    # winner, second: 1 and .5: errors 1.5 and 2; loser, first: -2 and -1: errors .5 and 1.5
    # loser, second: -1.5 and -.5: errors 1 and 2
    expected = 1 - torch.tensor([[[0.75, 1.75], [1.0, 1.5]]]) / 4
    torch.testing.assert_close(pairwise_reward(MEANS, SCORES, SPAN), expected)


def test_pairwise_loss_by_hand():
    # errors .5 + 1 + 1.5 + 2 on each side, over 2 G^2 span = 32
    assert pairwise_loss(MEANS, SCORES, SPAN, 1).item() == pytest.approx(10 / 32)


def test_pairwise_loss_is_one_minus_the_mean_reward():
    means, scores = random_pairs()
    loss = pairwise_loss(means, scores, SPAN, len(means))
    torch.testing.assert_close(loss, 1 - pairwise_reward(means, scores, SPAN).mean())


def test_exact_means_have_full_reward_and_no_loss():
    _, scores = random_pairs()
    means = scores.unsqueeze(-1).expand(-1, -1, 3)
    assert torch.equal(pointwise_reward(means, scores, SPAN), torch.ones_like(means))
    torch.testing.assert_close(pairwise_reward(means, scores, SPAN), torch.ones_like(means))
    assert pairwise_loss(means, scores, SPAN, 6).item() == pytest.approx(0.0)


def test_pairwise_loss_ignores_a_common_shift():
    means, scores = random_pairs()
    plain = pairwise_loss(means, scores, SPAN, 6)
    torch.testing.assert_close(pairwise_loss(means + 0.7, scores, SPAN, 6), plain)


def test_pairwise_loss_widens_a_gap_that_is_too_small():
    means = MEANS.clone().requires_grad_()
    pairwise_loss(means, SCORES, SPAN, 1).backward()
    assert (means.grad[:, 0] < 0).all()
    assert (means.grad[:, 1] > 0).all()


def test_pairwise_loss_narrows_a_gap_that_is_too_wide_and_bradley_terry_does_not():
    scores = torch.tensor([[3.5, 3.0]])
    means = MEANS.clone().requires_grad_()
    pairwise_loss(means, scores, SPAN, 1).backward()
    assert means.grad[0, 0, 0] > 0
    means = MEANS.clone().requires_grad_()
    bradley_terry_loss(means, 1).backward()
    assert (means.grad[:, 0] < 0).all()
    assert (means.grad[:, 1] > 0).all()


def test_bradley_terry_by_hand():
    gaps = torch.tensor([2.0, 1.5, 1.0, 0.5])
    expected = torch.log1p(torch.exp(-gaps)).mean()
    torch.testing.assert_close(bradley_terry_loss(MEANS, 1), expected)
    tied = torch.full((1, 2, 2), 3.0)
    assert bradley_terry_loss(tied, 1).item() == pytest.approx(0.6931472)


def test_rewards_and_objective_combine():
    assert combined_reward(torch.tensor(0.5), torch.tensor(0.25), 2.0, 4.0).item() == 2.0
    terms = torch.tensor([1.0, 2.0, 3.0])
    assert gdso_objective(*terms, alpha_pointwise=0.5, alpha_pairwise=0.1).item() == (
        pytest.approx(2.3)
    )


def test_rewards_carry_no_gradient():
    means = MEANS.clone().requires_grad_()
    assert not pointwise_reward(means, SCORES, SPAN).requires_grad
    assert not pairwise_reward(means, SCORES, SPAN).requires_grad


def test_no_pairs_is_zero_and_runs_backward():
    means = torch.zeros(0, 2, 3, requires_grad=True)
    log_probs = torch.zeros(0, 2, 3, 5, requires_grad=True)
    losses = [
        pairwise_loss(means, torch.zeros(0, 2), SPAN, 0),
        bradley_terry_loss(means, 0),
        pointwise_loss(log_probs, torch.zeros(0, 2, 5), 0),
    ]
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0.0, 0.0, 0.0]


def test_halves_add_up_to_the_whole():
    means, scores = random_pairs()
    log_probs = torch.rand(6, 2, 3, 5, dtype=torch.float64).log_softmax(-1)
    target = torch.rand(6, 2, 5, dtype=torch.float64).softmax(-1)

    def loss(rows: slice) -> torch.Tensor:
        return (
            pairwise_loss(means[rows], scores[rows], SPAN, 6)
            + bradley_terry_loss(means[rows], 6)
            + pointwise_loss(log_probs[rows], target[rows], 6)
        )

    torch.testing.assert_close(loss(slice(0, 2)) + loss(slice(2, 6)), loss(slice(None)))


def test_an_output_without_a_score_has_no_reward_and_is_ignored_by_others():
    means = torch.tensor([[[3.0, torch.nan], [1.0, 2.0]]])
    scores = torch.tensor([[3.0, 1.0]])
    assert pointwise_reward(means, scores, 4.0)[0, 0].isnan().tolist() == [False, True]
    rewards = pairwise_reward(means, scores, 4.0)
    assert rewards[0, 0, 1].isnan() and not rewards[0, 1].isnan().any()
    # gaps 2 and 1 for an annotated 2; the loser's outputs are compared with the one scored winner
    torch.testing.assert_close(rewards[0, 0, 0], torch.tensor(1 - 0.5 / 4))
    torch.testing.assert_close(rewards[0, 1], torch.tensor([1.0, 1 - 1 / 4]))
    unscored = torch.full((1, 2, 2), torch.nan)
    unscored[0, 0] = 3.0
    assert pairwise_reward(unscored, scores, 4.0).isnan().all()
