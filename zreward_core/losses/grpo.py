"""Group-relative policy optimisation: equations 3 and 4 of Z-Reward (arXiv:2606.09076).

Shapes: B inputs, G outputs of one input (the group), T tokens. ``[..., T]`` stands for any leading
shape, [B, G, T] or [N, T] with the groups flattened.
"""

import torch
from torch import Tensor

from zreward_core.losses.sums import divide, masked_sum


def group_advantages(rewards_BG: Tensor, epsilon: float = 1e-4, correction: int = 1) -> Tensor:
    """Advantage of each output within its group, equation 3.

    The paper doesn't specify the standard deviation. The default is the sample standard deviation
    (correction=1), as in TRL; correction=0 is that of the population. The advantage of a group of
    one is zero. An output without a reward (NaN) is excluded from its group; its advantage is zero.

    Args:
        rewards_BG: [B, G] rewards; gradients do not pass.
        epsilon: added to the standard deviation.
        correction: degrees of freedom subtracted from G.

    Returns:
        [B, G] (r - mean(r)) / (std(r) + epsilon).
    """
    rewards_BG = rewards_BG.detach()
    if rewards_BG.isnan().any():
        advantages_BG = torch.zeros_like(rewards_BG)
        for rewards_G, advantages_G in zip(rewards_BG, advantages_BG, strict=True):
            known_G = ~rewards_G.isnan()
            if known_G.any():
                known = rewards_G[known_G][None]
                advantages_G[known_G] = group_advantages(known, epsilon, correction)[0]
        return advantages_BG
    correction = min(correction, rewards_BG.shape[-1] - 1)
    std_B1 = rewards_BG.std(dim=-1, correction=correction, keepdim=True)
    return (rewards_BG - rewards_BG.mean(dim=-1, keepdim=True)) / (std_B1 + epsilon)


def policy_gradient_loss(
    log_probs_T: Tensor,
    advantages: Tensor,
    mask_T: Tensor,
    num_outputs: float | Tensor,
    weights_T: Tensor | None = None,
) -> Tensor:
    """First term of equation 4: -A_i * sum_t log pi(o_it), averaged over outputs.

    As in the paper, there is no importance ratio and no clipping, and tokens are summed, so long
    outputs have a larger weight than short ones. The gradient is exact for the first update after a
    rollout. With K_gdso > 1 the later updates use samples of a policy that is up to K_gdso - 1
    updates old, without correction: keep the updates small.

    Args:
        log_probs_T: [..., T] log-probabilities of the sampled tokens under the trained policy.
        advantages: [...] advantage of each output; gradients do not pass.
        mask_T: [..., T] bool, the tokens of the output.
        num_outputs: outputs in the whole batch. Passing the number of unmasked tokens instead gives
            the token mean that other implementations use.
        weights_T: [..., T] importance weights of tokens that an engine has sampled; None for 1.
    """
    weighted_T = advantages.detach().unsqueeze(-1) * log_probs_T
    if weights_T is not None:
        weighted_T = weights_T * weighted_T
    return divide(-masked_sum(weighted_T, mask_T), num_outputs)


def kl_to_reference(
    log_probs_T: Tensor,
    reference_log_probs_T: Tensor,
    mask_T: Tensor,
    num_outputs: float | Tensor,
    weights_T: Tensor | None = None,
) -> Tensor:
    """KL(pi || pi_ref) of equation 4, estimated on the sampled tokens.

    The paper does not specify an estimator. This is k3, as in TRL (Schulman 2020, "Approximating KL
    divergence"): exp(d) - d - 1 with d = log pi_ref - log pi. It is unbiased on samples of pi and
    never negative; value and gradient are zero if the policies agree.

    Args:
        log_probs_T: [..., T] log-probabilities of the sampled tokens under the trained policy.
        reference_log_probs_T: [..., T] the same under the reference; gradients do not pass.
        mask_T: [..., T] bool, the tokens of the output.
        num_outputs: outputs in the whole batch; tokens are summed.
        weights_T: [..., T] importance weights of tokens that an engine has sampled; None for 1.
    """
    difference_T = (reference_log_probs_T.detach() - log_probs_T).masked_fill(~mask_T, 0.0)
    estimate_T = torch.expm1(difference_T) - difference_T
    if weights_T is not None:
        estimate_T = weights_T * estimate_T
    return divide(estimate_T.sum(), num_outputs)


def grpo_loss(
    log_probs_T: Tensor,
    reference_log_probs_T: Tensor,
    advantages: Tensor,
    mask_T: Tensor,
    beta: float,
    num_outputs: float | Tensor,
    weights_T: Tensor | None = None,
) -> Tensor:
    """L_GRPO, equation 4: the policy gradient plus beta times the KL to the reference policy."""
    policy = policy_gradient_loss(log_probs_T, advantages, mask_T, num_outputs, weights_T)
    return policy + beta * kl_to_reference(
        log_probs_T, reference_log_probs_T, mask_T, num_outputs, weights_T
    )
