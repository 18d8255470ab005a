"""On-policy distillation: equations 18 and 19 of Z-Reward (arXiv:2606.09076), a baseline there.

Shapes: T tokens of an output; ``[..., T]`` stands for any leading shape, [N, T] for N outputs.
"""

from torch import Tensor

from zreward_core.losses.sums import divide


def distillation_advantages(teacher_log_probs_T: Tensor, old_log_probs_T: Tensor) -> Tensor:
    """A_t, equation 18: log pi_T(y_t) - log pi_old(y_t) of the sampled tokens, [..., T].

    Gradients do not pass, so the student's own log-probabilities may be given as those of pi_old.
    """
    return (teacher_log_probs_T - old_log_probs_T).detach()


def opd_loss(
    log_probs_T: Tensor,
    advantages_T: Tensor,
    mask_T: Tensor,
    num_outputs: float | Tensor,
    weights_T: Tensor | None = None,
) -> Tensor:
    """Equation 19: -1/T * sum_t sg(A_t) log pi(y_t), averaged over outputs.

    T is the number of unmasked tokens of an output; an output without tokens adds nothing.

    Args:
        log_probs_T: [..., T] log-probabilities of the sampled tokens under the trained student.
        advantages_T: [..., T] token advantages; gradients do not pass.
        mask_T: [..., T] bool, the tokens of the output.
        num_outputs: outputs in the whole batch.
        weights_T: [..., T] importance weights of tokens that an engine has sampled; None for 1.
    """
    advantages_T = advantages_T.detach().masked_fill(~mask_T, 0.0)  # may be NaN where masked
    if weights_T is not None:
        advantages_T = weights_T * advantages_T
    weighted_T = (advantages_T * log_probs_T).masked_fill(~mask_T, 0.0)
    lengths = mask_T.sum(dim=-1).clamp(min=1)
    return divide(-(weighted_T.sum(dim=-1) / lengths).sum(), num_outputs)
