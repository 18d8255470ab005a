"""train_gdso: items, pairs, teacher base -> teacher (method, section 4, algorithm 1).

Shapes: P pairs, 2 sides, G traces of a side, N = P x 2 x G rows, S levels.
"""

from pathlib import Path
from typing import Literal

import torch

from zreward_core.losses.gdso import (
    bradley_terry_loss,
    combined_reward,
    coupling_loss,
    gdso_objective,
    pairwise_loss,
    pairwise_reward,
    pointwise_loss,
    pointwise_reward,
)
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.distributed import precision
from zreward_core.stages import train_grpo
from zreward_core.stages.train_grpo import (
    Rewarded,
    Rewarding,
    advantages_of,
    group_scores,
    policy_loss,
    train_on_pairs,
)
from zreward_core.training.loops import Part
from zreward_core.training.samplers import PairBatch

OUTPUT = Path("data/train_gdso")


class Config(train_grpo.Config):
    """Group-wise Direct Score Optimization of the teacher."""

    lambda_pointwise: float = 0.5
    """Weight of the pointwise reward (equation 13)."""
    lambda_pairwise: float = 0.5
    """Weight of the pairwise reward (equation 13)."""
    alpha_pointwise: float = 1.0
    """Weight of the pointwise loss (equation 14)."""
    alpha_pairwise: float = 1.0
    """Weight of the pairwise loss (equation 14)."""
    pairwise: Literal["gap", "bradley_terry"] = "gap"
    """The pairwise loss: of the annotated gap (equation 11), or of the order alone (12)."""
    policy_weight: float = 1.0
    """Weight of the policy gradient term (1 in equation 14)."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""
    alpha_coupling: float = 0.0
    """Weight of the loss that ties the score to the trace: the other side's trace must lead to the
    other side's score (not in the paper, which asks for such a contrast)."""


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    train_on_pairs(OUTPUT, config, reward, loss_of)


def reward(backbone: Backbone, config: Config, batch: PairBatch, rollouts: Rollouts) -> Rewarding:
    """Equations 7, 10 and 13 for each output."""
    scores_P2G = group_scores(backbone, config, batch, rollouts)
    span = backbone.rubric.maximum - backbone.rubric.minimum
    pointwise = pointwise_reward(scores_P2G, batch.scores_P2, span)
    pairwise = pairwise_reward(scores_P2G, batch.scores_P2, span)
    rewards = combined_reward(pointwise, pairwise, config.lambda_pointwise, config.lambda_pairwise)
    rewarded, metrics = advantages_of(backbone, config, batch, rollouts, rewards)
    parts = {"reward/pointwise": pointwise, "reward/pairwise": pairwise}
    known = ~rewards.isnan()
    return rewarded, metrics | {
        name: part[known].mean().item() for name, part in parts.items() if known.any()
    }


def loss_of(
    backbone: Backbone,
    config: Config,
    rewarded: Rewarded,
    chosen: range,
    reference: list[torch.Tensor],
) -> Part:
    """Equation 14 for some pairs of a batch, divided by the counts of the whole batch."""
    batch, group = rewarded.batch, config.group_size
    num_pairs = len(batch.scores_P2)
    policy, found, drift = policy_loss(backbone, config, rewarded, chosen, reference)
    scores_P2GS = found.scores_NS.unflatten(0, (len(chosen), 2, group))
    means_P2G = expected_score(scores_P2GS.exp(), backbone.levels)
    target = batch.target_P2S[chosen.start : chosen.stop].to(backbone.device)
    annotated = batch.scores_P2[chosen.start : chosen.stop].to(backbone.device)
    span = backbone.rubric.maximum - backbone.rubric.minimum
    pointwise = pointwise_loss(scores_P2GS, target, num_pairs)
    if config.pairwise == "gap":
        pairwise = pairwise_loss(means_P2G, annotated, span, num_pairs)
    else:
        pairwise = bradley_terry_loss(means_P2G, num_pairs)
    loss = gdso_objective(
        config.policy_weight * policy,
        pointwise,
        pairwise,
        config.alpha_pointwise,
        config.alpha_pairwise,
    )
    loss = loss + config.mass_weight * mass_loss(found.mass_N, num_pairs * 2 * group)
    metrics = {
        "loss/pointwise": pointwise.item(),
        "loss/pairwise": pairwise.item(),
        "policy/drift": drift,
    }
    if config.alpha_coupling:
        exchanged = exchanged_scores(backbone, config, rewarded, chosen)
        coupling = coupling_loss(exchanged, target, num_pairs)
        loss = loss + config.alpha_coupling * coupling
        metrics["loss/coupling"] = coupling.item()
    return loss, {"loss/total": loss.item()} | metrics


def exchanged_scores(
    backbone: Backbone, config: Config, rewarded: Rewarded, chosen: range
) -> torch.Tensor:
    """log q(s | p, I_j, d, rho_jbar,i) [P, 2, G, S]: each side under the other side's traces."""
    batch, group = rewarded.batch, config.group_size
    sides = range(2 * chosen.start, 2 * chosen.stop)
    traces = [
        trace
        for side in sides
        for trace in rewarded.rollouts.tokens[(side ^ 1) * group : ((side ^ 1) + 1) * group]
    ]
    own = slice(sides.start, sides.stop)
    with precision():
        found = trace_log_probs(
            backbone, batch.prompts[own], batch.images[own], batch.dimensions[own], traces
        )
    return found.scores_NS.unflatten(0, (len(chosen), 2, group))
