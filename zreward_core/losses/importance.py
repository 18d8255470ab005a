"""Correction of a policy gradient on tokens that another sampler than the policy has drawn.

Shapes: T tokens of an output; ``[..., T]`` stands for any leading shape.
"""

import torch
from torch import Tensor

TRUNCATION = 2.0
"""Largest weight, as in Yao et al. 2025 ("Your Efficient RL Framework Secretly Brings You
Off-Policy RL Training")."""


def truncated_importance_weights(log_ratios_T: Tensor, truncation: float = TRUNCATION) -> Tensor:
    """w_t = min(pi_old(y_t) / mu(y_t), C), the truncated importance weight of each token.

    Not in the paper, whose policy samples its own outputs. An engine samples from mu, which differs
    from the policy pi_old by kernels and precision; with these weights on the terms of its tokens,
    a loss is again an expectation under pi_old, but for the truncation, which bounds the variance.

    Args:
        log_ratios_T: [..., T] log pi_old - log mu; gradients do not pass.
        truncation: C.
    """
    return torch.exp(log_ratios_T.detach()).clamp(max=truncation)
