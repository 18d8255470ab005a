"""Equation 20."""

import torch

from zreward_core.losses.refl import aggregate_rewards, refl_loss, velocity_distance


def test_aggregate_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
    assert aggregate_rewards(rewards).tolist() == [2.5, 5.0]
    weights = torch.tensor([1.0, 0.0, 0.0, 3.0])
    assert aggregate_rewards(rewards, weights).tolist() == [3.25, 5.0]
    torch.testing.assert_close(
        aggregate_rewards(rewards, torch.full((4,), 2.0)), aggregate_rewards(rewards)
    )


def test_refl_gradient_raises_the_reward():
    rewards = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = refl_loss(rewards, 2)
    assert loss.item() == -2.5
    loss.backward()
    assert rewards.grad.tolist() == [[-0.25, -0.25]] * 2


def test_velocity_distance_by_hand():
    frozen = torch.zeros(2, 1, 2, 2)
    velocity = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]], [[[2.0, 0.0], [0.0, 0.0]]]])
    velocity.requires_grad_()
    distance = velocity_distance(velocity, frozen, 2)
    assert distance.item() == 1.0
    distance.backward()
    assert (velocity.grad >= 0).all()  # down the gradient: back to the frozen velocity, 0
    assert velocity_distance(frozen, frozen, 2).item() == 0.0


def test_no_images_are_zero_and_run_backward():
    images = torch.zeros(0, 4, requires_grad=True)
    losses = [refl_loss(images, 0), velocity_distance(images, images.detach(), 0)]
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0.0, 0.0]


def test_halves_add_up_to_the_whole():
    rewards, velocity, weights = torch.rand(6, 4), torch.rand(6, 4), torch.rand(4)

    def loss(rows: slice) -> torch.Tensor:
        distance = velocity_distance(velocity[rows], rewards[rows], 6)
        return refl_loss(rewards[rows], 6, weights) + distance

    torch.testing.assert_close(loss(slice(0, 2)) + loss(slice(2, 6)), loss(slice(None)))
