"""train_grpo: items, pairs, base -> a reasoning model by GRPO alone, a baseline of Z-Reward.

Group Relative Policy Optimization with pointwise rewards; no pairwise rewards, no direct losses.
Shapes: P pairs, 2 sides (winner, loser), G outputs of a side.
"""

from pathlib import Path

from zreward_core.images import ImageStore
from zreward_core.losses.gdso import pointwise_reward
from zreward_core.losses.grpo import group_advantages
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts
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

OUTPUT = Path("data/train_grpo")


class Config(shared.PairPolicyConfig, Validated):
    """Group Relative Policy Optimization on annotated scores."""


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    all_pairs, items = shared.training_pairs(), shared.training_items()
    base = shared.BASES / config.base
    sources = {"base": base, "pairs": shared.PAIRS_FILE, "items": shared.ITEMS_FILE}
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint("train_grpo", config, sources.values())
    history: History = []
    if config.steps:
        require_divisible(config.pairs_per_step, "train_grpo.pairs_per_step")
        sampler = PairSampler(backbone, items, all_pairs, ImageStore(*shared.IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_grpo", config, config.seed, checkpoint, reasoning=True
        )
        for step in on_policy_steps(
            backbone,
            "train_grpo",
            checkpoint,
            history,
            validation=validation,
            engine=rollout_engine("train_grpo", backbone, trains=True),
            **config.loop,
        ):
            pairs = sampler.draw(config.pairs_per_step, step.rng)
            sampler.prefetch(config.pairs_per_step, step.next_rng)
            rollouts = roll_out(
                backbone,
                *pairs.inputs,
                config.group_size,
                config.temperature,
                step.rng,
                config.rollout_batch_size,
            )
            batch, step.metrics = reward(backbone, config, pairs, rollouts)
            for _ in range(config.updates_per_batch):
                step.update(
                    loss_of(backbone, config, batch, part, step.reference)
                    for part in own_micro_batches(config.pairs_per_step, config.micro_batch_pairs)
                )
        backbone = unsharded(backbone, lambda: open_backbone(base, config, config.seed))
    shared.save_trained(OUTPUT / "teacher", config, backbone, history, checkpoint, sources)


def reward(
    backbone: Backbone, config: Config, pairs: PairBatch, rollouts: Rollouts
) -> tuple[RewardedPairs, dict[str, float]]:
    """Rewards (7) and advantages (3) of rollouts; with the metrics of the batch."""
    scores_P2G = group_scores(backbone, pairs, rollouts, config.from_text)
    span = backbone.rubric.maximum - backbone.rubric.minimum
    rewards_P2G = pointwise_reward(scores_P2G, pairs.scores_P2, span)  # (7)
    advantages_P2G = group_advantages(rewards_P2G.flatten(0, 1)).unflatten(0, (-1, 2))  # (3)
    batch = RewardedPairs(pairs, rollouts, rewards_P2G, advantages_P2G)
    return batch, sampling_metrics(backbone, batch, {}, config.thorough, config.from_text)


def loss_of(
    backbone: Backbone,
    config: Config,
    batch: RewardedPairs,
    part: range,
    reference: Reference,
) -> LossAndMetrics:
    """Equation 4 of some pairs of a batch, divided by the counts of the whole batch."""
    with_score = config.count_score_token or config.from_text
    loss, _, drift = policy_loss(
        backbone, batch, part, reference, config.beta, config.temperature, with_score
    )
    return loss, {"loss/total": loss.item(), "policy/drift": drift}
