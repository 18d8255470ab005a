"""Reasoning-Internalized Score Distillation: equation 15 of Z-Reward (arXiv:2606.09076).

Shapes: S score levels; ``[..., S]`` stands for any leading shape, [B, D, S] for D dimensions.
"""

import torch
from torch import Tensor

from zreward_core.losses.sums import divide, masked_sum


def risd_loss(
    student_log_probs_S: Tensor,
    teacher_probs_S: Tensor,
    mask: Tensor,
    num_items: float | Tensor,
) -> Tensor:
    """L_RISD, equation 15: KL(q_T || q_phi), averaged over items, with 0 log 0 = 0.

    If q_T is the mean over several traces, this is the KL to that mean; its gradient is that of the
    mean of the KLs to the distribution of each trace.

    Args:
        student_log_probs_S: [..., S] log q_phi.
        teacher_probs_S: [..., S] the teacher's score distributions; gradients do not pass.
        mask: [...] bool, the labelled items.
        num_items: items in the whole batch.
    """
    teacher_probs_S = teacher_probs_S.detach()
    counted_S = (teacher_probs_S > 0) & mask.unsqueeze(-1)
    entropy_terms_S = torch.xlogy(teacher_probs_S, teacher_probs_S)
    terms_S = entropy_terms_S - teacher_probs_S * student_log_probs_S
    return divide(masked_sum(terms_S, counted_S), num_items)
