"""Supervised losses: cross-entropy of scores, and of the tokens of a given text.

Shapes: S score levels, T tokens; ``[..., S]`` stands for any leading shape.
"""

from torch import Tensor

from zreward_core.losses.sums import divide, masked_sum


def score_cross_entropy(
    log_probs_S: Tensor, target_S: Tensor, mask: Tensor, num_items: float | Tensor
) -> Tensor:
    """Cross-entropy of a predicted score distribution with a histogram over the levels.

    The SFT baseline of Z-Reward (arXiv:2606.09076, which gives no formula), on the score
    tokens alone. A score on the grid has a one-hot histogram: -log q(s).

    Args:
        log_probs_S: [..., S] log q(s); minus infinity is allowed where the target is zero.
        target_S: [..., S] histogram of the annotated scores.
        mask: [...] bool, the items that count.
        num_items: items in the whole batch.
    """
    counted_S = (target_S > 0) & mask.unsqueeze(-1)
    return divide(-masked_sum(target_S * log_probs_S, counted_S), num_items)


def token_cross_entropy(log_probs_T: Tensor, mask_T: Tensor, num_tokens: float | Tensor) -> Tensor:
    """Negative log-likelihood of given tokens (RewardDance, arXiv:2509.08826: chains, then score).

    Args:
        log_probs_T: [..., T] log-probabilities of the given tokens.
        mask_T: [..., T] bool, the tokens that count.
        num_tokens: unmasked tokens in the whole batch.
    """
    return divide(-masked_sum(log_probs_T, mask_T), num_tokens)
