"""Pairs known only from votes, without scores, in the rewards and losses of GDSO.

Shapes: P pairs, 2 sides (winner, loser), G outputs of a side.
"""

from typing import Literal

import torch
from torch import Tensor

from zreward_core.losses.gdso import bradley_terry_loss
from zreward_core.losses.votes import vote_loss, vote_reward
from zreward_core.rubric import Rubric
from zreward_core.training.samplers import PairBatch

Votes = Literal["leave_out", "margin", "bradley_terry"]
"""Use of pairs without scores: none, a gap of at least half a level, or equation 12."""


def rewards_with_votes(
    pointwise_P2G: Tensor, pairwise_P2G: Tensor, means_P2G: Tensor, pairs: PairBatch, rubric: Rubric
) -> tuple[Tensor, Tensor]:
    """Rewards [P, 2, G] of equations 7 and 10 for scored pairs, of the votes for the others.

    A pair without scores has no pointwise reward: its term of equation 13 is zero.
    """
    scored_P11 = pairs.scored_P[:, None, None]
    span = rubric.maximum - rubric.minimum
    by_votes_P2G = vote_reward(means_P2G, pairs.ties_P, half_level(rubric), span)
    return (
        torch.where(scored_P11, pointwise_P2G, 0.0),
        torch.where(scored_P11, pairwise_P2G, by_votes_P2G),
    )


def loss_of_votes(
    means_P2G: Tensor, pairs: PairBatch, part: range, rubric: Rubric, votes: Votes
) -> Tensor | float:
    """Pairwise loss of the pairs without scores in a part of a batch; 0 if there are none.

    Args:
        means_P2G: expected scores of the pairs in the part; gradients pass.
        part: range of pair indices.
        votes: "margin" or "bradley_terry"; a tie is a gap of zero in both.
    """
    rows = slice(part.start, part.stop)
    num_pairs, by_votes_P, ties_P = len(pairs.scores_P2), ~pairs.scored_P[rows], pairs.ties_P[rows]
    if not by_votes_P.any():
        return 0.0
    loss: Tensor | float = 0.0
    if votes == "bradley_terry":
        loss = bradley_terry_loss(means_P2G[by_votes_P & ~ties_P], num_pairs)
        by_votes_P = by_votes_P & ties_P
    span = rubric.maximum - rubric.minimum
    ties_P = ties_P[by_votes_P].to(means_P2G.device)
    return loss + vote_loss(means_P2G[by_votes_P], ties_P, half_level(rubric), span, num_pairs)


def half_level(rubric: Rubric) -> float:
    """Half the mean distance between neighboring levels, in rubric points."""
    return (rubric.maximum - rubric.minimum) / (2 * (len(rubric.levels) - 1))
