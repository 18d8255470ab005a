"""train_gdso: items, pairs, teacher base -> teacher, by Group-wise Direct Score Optimization.

Algorithm 1 of Z-Reward (arXiv:2606.09076); the numbers in parentheses are the paper's equations.
Shapes: P pairs, 2 sides (winner w, loser l), G outputs of a side, N = P x 2 x G, S score levels.
"""

from pathlib import Path
from typing import Literal

import torch

from zreward_core.images import ImageStore
from zreward_core.losses.gdso import (
    bradley_terry_loss,
    combined_reward,
    gdso_objective,
    pairwise_loss,
    pairwise_reward,
    pointwise_loss,
    pointwise_reward,
)
from zreward_core.losses.grpo import group_advantages
from zreward_core.losses.votes import vote_loss, vote_reward
from zreward_core.models.backbone import Backbone, load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.score_decoder import expected_score, mass_loss
from zreward_core.rubric import Rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.runtime.worker import is_main
from zreward_core.stages import _training as shared
from zreward_core.training.on_policy import on_policy_steps
from zreward_core.training.policy import RewardedPairs, group_scores, policy_loss, sampling_metrics
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import PairBatch, PairSampler
from zreward_core.training.updates import History, Part, Reference, own_parts

OUTPUT = Path("data/train_gdso")


class Config(shared.PairPolicyConfig):
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
    votes: Literal["leave_out", "margin", "bradley_terry"] = "leave_out"
    """How pairs known from votes alone (no scores) are used: not at all, or by their order, with a
    loss of the gap, which should be at least half a level, or with equation 12. A tie is a gap of
    zero in both. Such pairs have no pointwise reward and loss."""
    policy_weight: float = 1.0
    """Weight of the policy gradient term (1 in equation 14)."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    by_votes = config.votes != "leave_out"
    all_pairs, items = shared.training_pairs(by_votes), shared.training_items(by_votes)
    base, inputs = shared.BASES / config.base, (shared.ITEMS_FILE, shared.PAIRS_FILE)
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_gdso", config, [base, *inputs, *shared.IMAGES])
    history: History = []
    if config.steps:
        require_divisible(config.pairs_per_step, "train_gdso.pairs_per_step")
        sampler = PairSampler(backbone, items, all_pairs, ImageStore(*shared.IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        # N iterations of M steps; at the start of each iteration step.reference (pi_ref) <- pi.
        for step in on_policy_steps(backbone, "train_gdso", checkpoint, history, **config.loop):
            pairs = sampler.draw(config.pairs_per_step, step.rng)  # a batch of same-prompt pairs
            rollouts = roll_out(  # G outputs of each side from pi_old <- pi, and q after each (2)
                backbone, *pairs.inputs, config.group_size, config.temperature, step.rng
            )
            batch, step.metrics = reward(backbone, config, pairs, rollouts)
            for _ in range(config.updates_per_batch):  # K_gdso updates of pi
                step.update(
                    objective(backbone, config, batch, chosen, step.reference)
                    for chosen in own_parts(config.pairs_per_step, config.micro_batch_pairs)
                )
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            sources = {"base": base, "pairs": shared.PAIRS_FILE, "items": shared.ITEMS_FILE}
            backbone.save(folder / "teacher", shared.lineage("train_gdso", **sources))
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def reward(
    backbone: Backbone, config: Config, pairs: PairBatch, rollouts: Rollouts
) -> tuple[RewardedPairs, dict[str, float]]:
    """Decode the scores, and compute rewards and advantages; with the metrics of the batch."""
    means_P2G = group_scores(backbone, pairs, rollouts, config.from_text)  # mu (6)
    span = backbone.rubric.maximum - backbone.rubric.minimum  # S_max - S_min
    scored_P11 = pairs.scored_P[:, None, None]
    pointwise_P2G = pointwise_reward(means_P2G, pairs.scores_P2, span)  # r_pt (7)
    pairwise_P2G = torch.where(
        scored_P11,
        pairwise_reward(means_P2G, pairs.scores_P2, span),  # r_pw (10), of gaps D (9)
        vote_reward(means_P2G, pairs.ties_P, half_level(backbone.rubric), span),
    )
    rewards_P2G = combined_reward(  # r (13); without r_pt in a pair by votes
        torch.where(scored_P11, pointwise_P2G, 0.0),
        pairwise_P2G,
        config.lambda_pointwise,
        config.lambda_pairwise,
    )
    advantages_P2G = group_advantages(rewards_P2G.flatten(0, 1)).unflatten(0, (-1, 2))  # A (3)
    batch = RewardedPairs(pairs, rollouts, rewards_P2G, advantages_P2G)
    parts = {"pointwise": pointwise_P2G, "pairwise": pairwise_P2G}
    return batch, sampling_metrics(backbone, batch, parts, config.thorough, config.from_text)


def objective(
    backbone: Backbone, config: Config, batch: RewardedPairs, chosen: range, reference: Reference
) -> Part:
    """L_GDSO (14) of some pairs of a batch, divided by the counts of the whole batch."""
    num_pairs, group = batch.rewards_P2G.shape[0], batch.rewards_P2G.shape[2]
    target_P2S = batch.pairs.target_P2S[chosen.start : chosen.stop].to(backbone.device)
    with_score = config.count_score_token or config.from_text
    grpo, found, drift = policy_loss(  # L_GRPO (4)
        backbone, batch, chosen, reference, config.beta, config.temperature, with_score
    )
    scores_P2GS = found.scores_NS.unflatten(0, (len(chosen), 2, group))  # log q
    means_P2G = expected_score(scores_P2GS.exp(), backbone.levels)  # mu (6)
    num_scored = int(batch.pairs.scored_P.sum())
    pointwise = pointwise_loss(scores_P2GS, target_P2S, num_scored)  # L_pt (8)
    pairwise = pairwise_part(backbone, config, batch.pairs, chosen, means_P2G)  # L_pw
    loss = gdso_objective(  # L_GDSO (14)
        config.policy_weight * grpo,
        pointwise,
        pairwise,
        config.alpha_pointwise,
        config.alpha_pairwise,
    )
    loss = loss + config.mass_weight * mass_loss(found.mass_N, num_pairs * 2 * group)
    return loss, {
        "loss/total": loss.item(),
        "loss/pointwise": pointwise.item(),
        "loss/pairwise": pairwise.item(),
        "policy/drift": drift,
    }


def pairwise_part(
    backbone: Backbone, config: Config, pairs: PairBatch, chosen: range, means_P2G: torch.Tensor
) -> torch.Tensor:
    """L_pw of some pairs: equation 11 or 12 where there are scores, else by votes."""
    num_pairs, rows = len(pairs.scores_P2), slice(chosen.start, chosen.stop)
    scores_P2, ties_P = pairs.scores_P2[rows].to(means_P2G.device), pairs.ties_P[rows]
    scored_P = pairs.scored_P[rows]
    span, margin = backbone.rubric.maximum - backbone.rubric.minimum, half_level(backbone.rubric)
    if config.pairwise == "gap":
        loss = pairwise_loss(means_P2G[scored_P], scores_P2[scored_P], span, num_pairs)  # (11)
    else:
        loss = bradley_terry_loss(means_P2G[scored_P], num_pairs)  # (12)
    if scored_P.all():
        return loss
    by_margin_P = ~scored_P
    if config.votes == "bradley_terry":
        loss = loss + bradley_terry_loss(means_P2G[~scored_P & ~ties_P], num_pairs)  # (12)
        by_margin_P = ties_P
    ties_P = ties_P[by_margin_P].to(means_P2G.device)
    return loss + vote_loss(means_P2G[by_margin_P], ties_P, margin, span, num_pairs)


def half_level(rubric: Rubric) -> float:
    """Half the mean distance between neighbouring levels, in rubric points."""
    return (rubric.maximum - rubric.minimum) / (2 * (len(rubric.levels) - 1))
