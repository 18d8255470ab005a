"""Group-wise Direct Score Optimization: equations 7-14 of Z-Reward (arXiv:2606.09076).

Shapes: P same-prompt pairs, 2 sides (winner, loser), G outputs a side, S score levels.
``span`` is S_max - S_min. Rewards carry no gradient; losses pass it to the score distributions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward_core.losses.sft import score_cross_entropy
from zreward_core.losses.sums import divide


def pointwise_reward(means_P2G: Tensor, scores_P2: Tensor, span: float) -> Tensor:
    """r_pt, equation 7: 1 - |mu - s| / span.

    Args:
        means_P2G: [P, 2, G] expected scores mu of the outputs; NaN for an output without a score.
        scores_P2: [P, 2] annotated scores; NaN for a pair without scores.
        span: S_max - S_min.

    Returns:
        [P, 2, G] rewards in [0, 1]; NaN for an output or a pair without a score.
    """
    return 1.0 - (means_P2G.detach() - scores_P2.unsqueeze(-1)).abs() / span


def pointwise_loss(log_probs_P2GS: Tensor, target_P2S: Tensor, num_pairs: float | Tensor) -> Tensor:
    """L_pt, equation 8: -1/(2G) * sum over sides and outputs of log q(s), averaged over pairs.

    Differs from the paper for a score between two levels (an aggregate of several annotators): its
    histogram, shared between the neighbouring levels, is then the target of a cross-entropy.

    Args:
        log_probs_P2GS: [P, 2, G, S] log q of the outputs.
        target_P2S: [P, 2, S] histogram of the annotated scores; one-hot on the grid. All zero for
            a pair without scores, which adds nothing.
        num_pairs: pairs with scores in the whole batch.
    """
    num_sides, group = log_probs_P2GS.shape[1:3]
    target_P2GS = target_P2S.unsqueeze(2).expand_as(log_probs_P2GS)
    everything = torch.ones_like(log_probs_P2GS[..., 0], dtype=torch.bool)
    return score_cross_entropy(log_probs_P2GS, target_P2GS, everything, num_pairs) / (
        num_sides * group
    )


def annotated_gap(scores_P2: Tensor) -> Tensor:
    """D_j = s_j - s_jbar, equation 9: annotated score of a side minus the other side's, [P, 2]."""
    return scores_P2 - scores_P2.flip(-1)


def predicted_gaps(means_P2G: Tensor) -> Tensor:
    """mu_ji - mu_jbar,k of equations 10-12: each output minus each of the other side.

    Returns:
        [P, 2, G, G], the last axis over the other side's outputs.
    """
    return means_P2G.unsqueeze(-1) - means_P2G.flip(-2).unsqueeze(-2)


def gap_errors(means_P2G: Tensor, scores_P2: Tensor) -> Tensor:
    """|(mu_ji - mu_jbar,k) - D_j| of equations 10 and 11, [P, 2, G, G]."""
    return (predicted_gaps(means_P2G) - annotated_gap(scores_P2)[..., None, None]).abs()


def pairwise_reward(means_P2G: Tensor, scores_P2: Tensor, span: float) -> Tensor:
    """r_pw, equation 10: 1 minus the mean error of the gap to the other side, over span.

    The mean is over the outputs of the other side that have a score.

    Returns:
        [P, 2, G] rewards in [-1, 1]; NaN where an output, or all of the other side's, has no score.
    """
    return 1.0 - gap_errors(means_P2G.detach(), scores_P2).nanmean(dim=-1) / span


def pairwise_loss(
    means_P2G: Tensor, scores_P2: Tensor, span: float, num_pairs: float | Tensor
) -> Tensor:
    """L_pw, equation 11: error of the gap over sides and all G x G cross-side pairs.

    The sums of the two sides are equal (the same gaps with opposite signs); the paper writes both.

    Args:
        means_P2G: [P, 2, G] expected scores; gradients pass.
        scores_P2: [P, 2] annotated scores.
        span: S_max - S_min.
        num_pairs: pairs in the whole batch.
    """
    errors_P2GG = gap_errors(means_P2G, scores_P2)
    num_sides, group = errors_P2GG.shape[1:3]
    return divide(errors_P2GG.sum(), num_pairs) / (num_sides * group**2 * span)


def bradley_terry_loss(means_P2G: Tensor, num_pairs: float | Tensor) -> Tensor:
    """-log sigmoid(mu_w - mu_l), equation 12, averaged over the G x G cross-side pairs.

    The alternative that the paper rejects: it can increase the margin without bound, which breaks
    calibration. Kept for comparison. The paper writes it for one pair of outputs; the mean over
    the group is ours.
    """
    margins_PGG = predicted_gaps(means_P2G)[:, 0]
    return divide(-F.logsigmoid(margins_PGG).sum(), num_pairs) / margins_PGG.shape[-1] ** 2


def combined_reward(
    pointwise: Tensor, pairwise: Tensor, lambda_pointwise: float, lambda_pairwise: float
) -> Tensor:
    """r, equation 13: lambda_pt r_pt + lambda_pw r_pw, [P, 2, G]."""
    return lambda_pointwise * pointwise + lambda_pairwise * pairwise


def gdso_objective(
    grpo: Tensor,
    pointwise: Tensor,
    pairwise: Tensor,
    alpha_pointwise: float,
    alpha_pairwise: float,
) -> Tensor:
    """L_GDSO, equation 14: L_GRPO(r) + alpha_pt L_pt + alpha_pw L_pw."""
    return grpo + alpha_pointwise * pointwise + alpha_pairwise * pairwise
