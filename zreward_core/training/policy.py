"""Rewarded rollouts of same-prompt pairs, and the policy loss on them (equation 4).

Shapes: P pairs, 2 sides (winner, loser), G outputs of a side, N = P x 2 x G outputs, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from zreward_core.losses.grpo import grpo_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, read_scores
from zreward_core.models.traces import TraceLogProbs, trace_log_probs
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.sharding import using
from zreward_core.training.rollouts import importance_weights, rollout_metrics, thorough_share
from zreward_core.training.samplers import PairBatch
from zreward_core.training.updates import Reference


@dataclass
class RewardedPairs:
    """Pairs with their rollouts, rewards and advantages."""

    pairs: PairBatch
    rollouts: Rollouts
    rewards_P2G: torch.Tensor
    """NaN for an output without a score."""
    advantages_P2G: torch.Tensor
    """Zero for an output without a score."""


def group_scores(
    backbone: Backbone, pairs: PairBatch, rollouts: Rollouts, from_text: bool
) -> torch.Tensor:
    """Score of each output [P, 2, G]: mu of equation 6, or the score in its text (NaN if none)."""
    scores_N = read_scores(backbone, rollouts, from_text)
    return scores_N.unflatten(0, (len(pairs.scores_P2), 2, -1))


def sampling_metrics(
    backbone: Backbone,
    batch: RewardedPairs,
    parts: Mapping[str, torch.Tensor],
    thorough: Mapping[str, int],
    from_text: bool,
) -> dict[str, float]:
    """Metrics of a sampled batch; means of rewards are over the outputs that have one.

    Args:
        parts: further rewards [P, 2, G] by name, such as the terms of equation 13; NaN where an
            output has none.
        thorough: see ``thorough_share``.
        from_text: record the share of outputs with a readable score.
    """
    metrics = rollout_metrics(batch.rollouts)
    known_P2G = ~batch.rewards_P2G.isnan()
    if known_P2G.any():
        for name, rewards_P2G in {"mean": batch.rewards_P2G, **parts}.items():
            rewards = rewards_P2G[known_P2G]
            if not rewards.isnan().all():
                metrics[f"reward/{name}"] = rewards[~rewards.isnan()].mean().item()
    if from_text:
        metrics["score/readable"] = int(known_P2G.sum()) / known_P2G.numel()
    names = [backbone.rubric.names[dimension] for dimension in batch.pairs.dimensions]
    return metrics | thorough_share(batch.rollouts, names, thorough)


def policy_loss(
    backbone: Backbone,
    batch: RewardedPairs,
    part: range,
    reference: Reference,
    beta: float,
    temperature: float,
    count_score_token: bool,
) -> tuple[torch.Tensor, TraceLogProbs, float]:
    """L_GRPO, equation 4, of some pairs of a batch, divided by the rewarded outputs of all pairs.

    Args:
        part: range of pair indices.
        reference: weights of pi_ref; unused if beta is 0.
        temperature: sampling temperature; log-probabilities are taken at the same one.
        count_score_token: include the sampled score token in the sum over tokens.

    Returns:
        the loss; log-probabilities and score distributions under the policy, gradients passing;
        log pi - log pi_ref summed over tokens, mean per output (nats); 0 if beta is 0.
    """
    group = batch.rewards_P2G.shape[-1]
    sides = slice(2 * part.start, 2 * part.stop)
    rows = slice(sides.start * group, sides.stop * group)
    read = partial(
        trace_log_probs,
        backbone,
        batch.pairs.prompts[sides],
        batch.pairs.images[sides],
        batch.pairs.dimensions[sides],
        batch.rollouts.tokens[rows],
        temperature,
        batch.rollouts.answers[rows] if count_score_token else None,
    )
    reference_NT = None
    if beta:
        with torch.no_grad(), using(backbone, reference), precision():
            reference_NT = read().log_probs_NT
    with precision():
        found = read()
    if reference_NT is None:
        reference_NT = found.log_probs_NT.detach()
    known_P2G = ~batch.rewards_P2G.isnan()
    known_N = known_P2G[part.start : part.stop].flatten().to(backbone.device)
    mask_NT = found.mask_NT & known_N[:, None]
    advantages_N = batch.advantages_P2G[part.start : part.stop].flatten().to(backbone.device)
    num_outputs = int(known_P2G.sum())
    weights_NT = importance_weights(batch.rollouts, rows, found.log_probs_NT)
    loss = grpo_loss(
        found.log_probs_NT, reference_NT, advantages_N, mask_NT, beta, num_outputs, weights_NT
    )
    moved = torch.where(mask_NT, found.log_probs_NT.detach() - reference_NT, 0.0)
    return loss, found, moved.sum().item() / max(num_outputs, 1)


def exchanged_scores(backbone: Backbone, batch: RewardedPairs, part: range) -> torch.Tensor:
    """log q(s | p, I_j, d, rho_jbar,i) [P, 2, G, S]: each image under the other image's traces."""
    group = batch.rewards_P2G.shape[-1]
    sides = range(2 * part.start, 2 * part.stop)
    traces = [
        trace
        for side in sides
        for trace in batch.rollouts.tokens[(side ^ 1) * group : ((side ^ 1) + 1) * group]
    ]
    pairs, own = batch.pairs, slice(sides.start, sides.stop)
    with precision():
        found = trace_log_probs(
            backbone, pairs.prompts[own], pairs.images[own], pairs.dimensions[own], traces
        )
    return found.scores_NS.unflatten(0, (len(part), 2, group))
