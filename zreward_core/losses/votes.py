"""Pairs known only from votes: which image wins, or a tie, but no scores.

Not in Z-Reward (arXiv:2606.09076), which leaves unified reward modelling open. Equations 10 and 11
with the error of a gap replaced by its distance from the gaps that agree with the vote: at least
``margin`` for a win, zero for a tie. Unlike equation 12, a wide gap isn't rewarded further.

Shapes: P same-prompt pairs, 2 sides (winner, loser), G outputs of a side.
"""

import torch
from torch import Tensor

from zreward_core.losses.gdso import predicted_gaps
from zreward_core.losses.sums import divide


def vote_errors(means_P2G: Tensor, ties_P: Tensor, margin: float) -> Tensor:
    """Distance of each predicted gap from those that agree with the vote, [P, 2, G, G].

    Args:
        means_P2G: [P, 2, G] expected scores; NaN for an output without a score.
        ties_P: [P] bool, tied pairs; the first side wins the others.
        margin: smallest gap that agrees with a win, in rubric points.
    """
    gaps_P2GG = predicted_gaps(means_P2G)
    leads_P2GG = torch.stack([gaps_P2GG[:, 0], -gaps_P2GG[:, 1]], dim=1)  # winner minus loser
    missing_P2GG = (margin - leads_P2GG).clamp(min=0.0)
    return torch.where(ties_P[:, None, None, None], leads_P2GG.abs(), missing_P2GG)


def vote_reward(means_P2G: Tensor, ties_P: Tensor, margin: float, span: float) -> Tensor:
    """r_pw by votes: equation 10 with ``vote_errors``; there is no pointwise reward.

    The mean is over the outputs of the other side that have a score.

    Args:
        means_P2G, ties_P, margin: see ``vote_errors``; gradients do not pass.
        span: S_max - S_min.

    Returns:
        [P, 2, G] rewards of at most 1; NaN where an output, or all of the other side's, has no
        score.
    """
    return 1.0 - vote_errors(means_P2G.detach(), ties_P, margin).nanmean(dim=-1) / span


def vote_loss(
    means_P2G: Tensor, ties_P: Tensor, margin: float, span: float, num_pairs: float | Tensor
) -> Tensor:
    """L_pw by votes: equation 11 with ``vote_errors``.

    Args:
        means_P2G, ties_P, margin: see ``vote_errors``; gradients pass.
        span: S_max - S_min.
        num_pairs: pairs in the whole batch, with and without scores.
    """
    errors_P2GG = vote_errors(means_P2G, ties_P, margin)
    num_sides, group = errors_P2GG.shape[1:3]
    return divide(errors_P2GG.sum(), num_pairs) / (num_sides * group**2 * span)
