"""Equations 3 and 4."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from zreward_core.losses.grpo import (
    group_advantages,
    grpo_loss,
    kl_to_reference,
    policy_gradient_loss,
)

LOG_PROBS = [[-1.0, -2.0, -3.0], [-0.5, -0.25, -9.0]]
MASK = torch.tensor([[True, True, True], [True, True, False]])


def log_probs() -> torch.Tensor:
    return torch.tensor(LOG_PROBS, requires_grad=True)


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]])
    # mean 2, sample standard deviation 1
    expected = torch.tensor([[-1 / 1.0001, 0.0, 1 / 1.0001], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(group_advantages(rewards), expected)


def test_advantages_of_the_population():
    rewards = torch.tensor([[1.0, 3.0]])  # mean 2, population standard deviation 1
    got = group_advantages(rewards, epsilon=0.0, correction=0)
    torch.testing.assert_close(got, torch.tensor([[-1.0, 1.0]]))


def test_advantages_ignore_shift_and_scale():
    rewards = torch.rand(5, 4, dtype=torch.float64)
    plain = group_advantages(rewards, epsilon=0.0)
    torch.testing.assert_close(group_advantages(3 * rewards + 7, epsilon=0.0), plain)


def test_a_group_of_one_has_no_advantage():
    assert group_advantages(torch.tensor([[0.3]])).tolist() == [[0.0]]


def test_an_output_without_a_reward_is_left_out_of_its_group():
    rewards = torch.tensor([[1.0, torch.nan, 2.0, 3.0], [torch.nan, torch.nan, torch.nan, 0.5]])
    expected = torch.tensor([[-1 / 1.0001, 0.0, 0.0, 1 / 1.0001], [0.0] * 4])
    torch.testing.assert_close(group_advantages(rewards), expected)


def test_policy_gradient_by_hand():
    # -(2 * (-1 - 2 - 3) + -1 * (-0.5 - 0.25)) / 2
    loss = policy_gradient_loss(log_probs(), torch.tensor([2.0, -1.0]), MASK, 2)
    assert loss.item() == pytest.approx(5.625)


def test_policy_gradient_raises_outputs_with_positive_advantage():
    values = log_probs()
    policy_gradient_loss(values, torch.tensor([2.0, -1.0]), MASK, 2).backward()
    expected = torch.tensor([[-1.0, -1.0, -1.0], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(values.grad, expected)


def test_kl_by_hand_and_identity():
    reference = torch.tensor(LOG_PROBS) + torch.log(torch.tensor(2.0))
    # exp(log 2) - log 2 - 1 on each of five tokens, two outputs
    expected = 5 * (1 - 0.6931472) / 2
    assert kl_to_reference(log_probs(), reference, MASK, 2).item() == pytest.approx(expected)
    values = log_probs()
    same = kl_to_reference(values, torch.tensor(LOG_PROBS), MASK, 2)
    same.backward()
    assert same.item() == 0.0
    assert values.grad.abs().sum().item() == 0.0


def test_kl_estimates_the_divergence():
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    per_token = [
        kl_to_reference(policy[[i]].log(), reference[[i]].log(), torch.tensor([True]), 1)
        for i in range(3)
    ]
    expectation = sum(p * k for p, k in zip(policy, per_token, strict=True))
    torch.testing.assert_close(expectation, (policy * (policy / reference).log()).sum())


def test_kl_pulls_towards_the_reference():
    values = log_probs()
    kl_to_reference(values, torch.tensor(LOG_PROBS) + 0.5, MASK, 1).backward()
    assert (values.grad[MASK] < 0).all()  # a step down the gradient raises the log-probability


def test_advantages_carry_no_gradient():
    rewards = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    assert not group_advantages(rewards).requires_grad
    advantages = torch.tensor([2.0, -1.0], requires_grad=True)
    policy_gradient_loss(log_probs(), advantages, MASK, 2).backward()
    assert advantages.grad is None


def test_the_reference_carries_no_gradient():
    reference = torch.tensor(LOG_PROBS).sub(0.3).requires_grad_()
    values = log_probs()
    kl_to_reference(values, reference, MASK, 2).backward()
    assert reference.grad is None
    assert values.grad[MASK].abs().min() > 0


def test_grpo_is_the_sum_of_its_terms():
    advantages, reference = torch.tensor([2.0, -1.0]), torch.tensor(LOG_PROBS) - 0.3
    policy = policy_gradient_loss(log_probs(), advantages, MASK, 2)
    divergence = kl_to_reference(log_probs(), reference, MASK, 2)
    got = grpo_loss(log_probs(), reference, advantages, MASK, beta=0.1, num_outputs=2)
    torch.testing.assert_close(got, policy + 0.1 * divergence)


def test_empty_mask_is_zero_and_runs_backward():
    values = torch.full((2, 3), -torch.inf, requires_grad=True)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    loss = grpo_loss(values, torch.zeros(2, 3), torch.ones(2), nothing, 0.1, 0)
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad.tolist() == [[0.0] * 3] * 2


def test_halves_add_up_to_the_whole():
    advantages, reference = torch.tensor([2.0, -1.0]), torch.tensor(LOG_PROBS) - 0.3
    whole = grpo_loss(log_probs(), reference, advantages, MASK, 0.1, 2)
    halves = sum(
        grpo_loss(log_probs()[[i]], reference[[i]], advantages[[i]], MASK[[i]], 0.1, 2)
        for i in range(2)
    )
    torch.testing.assert_close(halves, whole)


def test_advantages_with_the_deviation_of_trl():
    rewards = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    std = nanstd(rewards, dim=1).unsqueeze(1)
    expected = (rewards - rewards.mean(dim=1, keepdim=True)) / (std + 1e-4)
    torch.testing.assert_close(group_advantages(rewards), expected)


def trl_loss(values, reference, advantages, mask, beta, loss_type):
    """TRL's own loss on given log-probabilities, without its model, sampling and logging."""
    alone = SimpleNamespace(
        gather=lambda value: value, reduce=lambda value, **_: value, num_processes=1
    )
    given = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (values, torch.zeros_like(values), 0),
        accelerator=alone,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        loss_type=loss_type,
        beta=beta,
        max_completion_length=values.shape[1],
        importance_sampling_level="token",
        epsilon_low=0.2,
        epsilon_high=0.2,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
    )
    tokens = torch.zeros(values.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": tokens[:, :1],
        "prompt_mask": tokens[:, :1],
        "completion_ids": tokens,
        "completion_mask": mask.long(),
        "advantages": advantages,
        "ref_per_token_logps": reference,
    }
    return GRPOTrainer._compute_loss(given, None, inputs)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(("loss_type", "scale"), [("luspo", 1), ("dr_grpo", 5), ("bnpo", None)])
def test_gradients_are_those_of_trl(loss_type, scale, beta):
    # TRL's loss types differ in the divisor of the sum over tokens: the outputs (luspo), that times
    # the longest length (dr_grpo), the tokens (bnpo). The ratio is 1 at the first update.
    generator = torch.Generator().manual_seed(0)
    values, reference = -torch.rand(2, 6, 5, generator=generator)
    advantages = torch.randn(6, generator=generator)
    mask = torch.arange(5) < torch.tensor([[1], [5], [3], [2], [5], [4]])
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    count = len(advantages) * scale if scale else mask.sum()
    grpo_loss(ours, reference, advantages, mask, beta, count).backward()
    trl_loss(theirs, reference, advantages, mask, beta, loss_type).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad[mask].abs().min() > 0
