"""train_gdso: items, pairs, teacher base -> teacher, by Group-wise Direct Score Optimization.

Algorithm 1 of Z-Reward (arXiv:2606.09076); the numbers in parentheses are the paper's equations.
Shapes: P pairs, 2 sides (winner w, loser l), G outputs of a side, N = P x 2 x G, S score levels.
"""

from pathlib import Path
from typing import Literal

from zreward_core.config import Weight
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
from zreward_core.losses.mass import mass_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.score_decoder import expected_score
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.stages import _training as shared
from zreward_core.stages._engine import rollout_engine
from zreward_core.stages._validation import Validated, Validation
from zreward_core.training.on_policy import on_policy_steps
from zreward_core.training.policy import RewardedPairs, group_scores, policy_loss, sampling_metrics
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import PairBatch, PairSampler
from zreward_core.training.updates import History, LossAndMetrics, Reference, own_micro_batches
from zreward_core.training.votes import Votes, loss_of_votes, rewards_with_votes

OUTPUT = Path("data/train_gdso")


class Config(shared.PairPolicyConfig, Validated):
    """Group-wise Direct Score Optimization of the teacher."""

    lambda_pointwise: Weight = 0.5
    """Weight of the pointwise reward (equation 13)."""
    lambda_pairwise: Weight = 0.5
    """Weight of the pairwise reward (equation 13)."""
    alpha_pointwise: Weight = 1.0
    """Weight of the pointwise loss (equation 14)."""
    alpha_pairwise: Weight = 1.0
    """Weight of the pairwise loss (equation 14)."""
    pairwise: Literal["gap", "bradley_terry"] = "gap"
    """The pairwise loss: on the annotated gap (equation 11), or Bradley-Terry (equation 12)."""
    votes: Votes = "leave_out"
    """Use of pairs known only from votes, without scores: none, or by their order, with a gap of
    at least half a level ("margin") or equation 12. A tie is a gap of zero in both. Such pairs have
    no pointwise reward and loss."""
    policy_weight: Weight = 1.0
    """Weight of L_GRPO, its KL term included (1 in equation 14)."""
    mass_weight: Weight = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    by_votes = config.votes != "leave_out"
    all_pairs, items = shared.training_pairs(by_votes), shared.training_items(by_votes)
    base = shared.BASES / config.base
    sources = {"base": base, "pairs": shared.PAIRS_FILE, "items": shared.ITEMS_FILE}
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_gdso", config, sources.values())
    history: History = []
    if config.steps:
        require_divisible(config.pairs_per_step, "train_gdso.pairs_per_step")
        sampler = PairSampler(backbone, items, all_pairs, ImageStore(*shared.IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_gdso", config, config.seed, checkpoint, reasoning=True
        )
        # N iterations of M steps; on_policy_steps sets step.reference (pi_ref) <- pi at each start.
        for step in on_policy_steps(
            backbone,
            "train_gdso",
            checkpoint,
            history,
            validation=validation,
            engine=rollout_engine("train_gdso", backbone, trains=True),
            **config.loop,
        ):
            pairs = sampler.draw(config.pairs_per_step, step.rng)  # a batch of same-prompt pairs
            sampler.prefetch(config.pairs_per_step, step.next_rng)
            rollouts = roll_out(  # pi_old <- pi: G outputs of each side, and q (2)
                backbone,
                *pairs.inputs,
                config.group_size,
                config.temperature,
                step.rng,
                config.rollout_batch_size,
            )
            batch, step.metrics = reward(backbone, config, pairs, rollouts)
            for _ in range(config.updates_per_batch):  # K_gdso updates of pi
                step.update(
                    objective(backbone, config, batch, part, step.reference)
                    for part in own_micro_batches(config.pairs_per_step, config.micro_batch_pairs)
                )
        backbone = unsharded(backbone, lambda: open_backbone(base, config, config.seed))
    shared.save_trained(OUTPUT / "teacher", config, backbone, history, checkpoint, sources)


def reward(
    backbone: Backbone, config: Config, pairs: PairBatch, rollouts: Rollouts
) -> tuple[RewardedPairs, dict[str, float]]:
    """Compute mu, rewards and advantages of a batch, and its metrics."""
    means_P2G = group_scores(backbone, pairs, rollouts, config.from_text)  # mu (6) or sampled score
    span = backbone.rubric.maximum - backbone.rubric.minimum  # S_max - S_min
    pointwise_P2G = pointwise_reward(means_P2G, pairs.scores_P2, span)  # r_pt (7)
    pairwise_P2G = pairwise_reward(means_P2G, pairs.scores_P2, span)  # r_pw (10), of gaps D (9)
    terms = rewards_with_votes(pointwise_P2G, pairwise_P2G, means_P2G, pairs, backbone.rubric)
    rewards_P2G = combined_reward(  # r (13)
        *terms, config.lambda_pointwise, config.lambda_pairwise
    )
    advantages_P2G = group_advantages(rewards_P2G.flatten(0, 1)).unflatten(0, (-1, 2))  # A (3)
    batch = RewardedPairs(pairs, rollouts, rewards_P2G, advantages_P2G)
    parts = {"pointwise": pointwise_P2G, "pairwise": terms[1]}
    return batch, sampling_metrics(backbone, batch, parts, config.thorough, config.from_text)


def objective(
    backbone: Backbone, config: Config, batch: RewardedPairs, part: range, reference: Reference
) -> LossAndMetrics:
    """L_GDSO (14) of some pairs of a batch, divided by the counts of the whole batch."""
    num_pairs, group = batch.rewards_P2G.shape[0], batch.rewards_P2G.shape[2]
    annotated_P2 = batch.pairs.scores_P2[part.start : part.stop].to(backbone.device)
    target_P2S = batch.pairs.target_P2S[part.start : part.stop].to(backbone.device)
    scored_P = batch.pairs.scored_P[part.start : part.stop]  # not known only from votes
    span = backbone.rubric.maximum - backbone.rubric.minimum
    with_score = config.count_score_token or config.from_text
    grpo, policy, drift = policy_loss(  # L_GRPO (4)
        backbone, batch, part, reference, config.beta, config.temperature, with_score
    )
    log_q_P2GS = policy.scores_NS.unflatten(0, (len(part), 2, group))
    means_P2G = expected_score(log_q_P2GS.exp(), backbone.levels)  # mu (6)
    num_scored = int(batch.pairs.scored_P.sum())
    pointwise = pointwise_loss(log_q_P2GS, target_P2S, num_scored)  # L_pt (8)
    if config.pairwise == "gap":
        pairwise = pairwise_loss(  # L_pw (11)
            means_P2G[scored_P], annotated_P2[scored_P], span, num_pairs
        )
    else:
        pairwise = bradley_terry_loss(means_P2G[scored_P], num_pairs)  # (12)
    pairwise = pairwise + loss_of_votes(means_P2G, batch.pairs, part, backbone.rubric, config.votes)
    loss = gdso_objective(  # L_GDSO (14)
        config.policy_weight * grpo,
        pointwise,
        pairwise,
        config.alpha_pointwise,
        config.alpha_pairwise,
    )
    loss = loss + config.mass_weight * mass_loss(policy.mass_N, num_pairs * 2 * group)
    return loss, {
        "loss/total": loss.item(),
        "loss/pointwise": pointwise.item(),
        "loss/pairwise": pairwise.item(),
        "policy/drift": drift,
    }
