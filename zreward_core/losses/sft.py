"""Supervised losses: cross-entropy of score distributions and of the tokens of a given text.

Shapes: S score levels, T tokens; ``[..., S]`` stands for any leading shape.
"""

from torch import Tensor

from zreward_core.losses.sums import divide, masked_sum


def score_cross_entropy(
    log_probs_S: Tensor, target_S: Tensor, mask: Tensor, num_items: float | Tensor
) -> Tensor:
    """Cross-entropy of a predicted score distribution with a histogram over the levels.

    The SFT baseline of Z-Reward (arXiv:2606.09076, which gives no formula), over the score tokens
    only. The histogram of a score on the grid is one-hot, so the loss is -log q(s).

    Args:
        log_probs_S: [..., S] log q(s); may be minus infinity where the target is zero.
        target_S: [..., S] histogram of the annotated scores.
        mask: [...] bool, the annotated items.
        num_items: items in the whole batch.
    """
    counted_S = (target_S > 0) & mask.unsqueeze(-1)
    return divide(-masked_sum(target_S * log_probs_S, counted_S), num_items)


def token_cross_entropy(log_probs_T: Tensor, mask_T: Tensor, num_tokens: float | Tensor) -> Tensor:
    """Mean negative log-likelihood of given tokens; used by RewardDance (arXiv:2509.08826).

    Args:
        log_probs_T: [..., T] log-probabilities of the given tokens.
        mask_T: [..., T] bool, the tokens of the text.
        num_tokens: unmasked tokens in the whole batch.
    """
    return divide(-masked_sum(log_probs_T, mask_T), num_tokens)
