"""train_gdso_coupled: items, pairs, base -> a teacher by GDSO with a coupling loss.

train_gdso (algorithm 1 of Z-Reward, arXiv:2606.09076) plus a loss under exchanged traces, which is
not in the paper.
Shapes: P pairs, 2 sides (winner w, loser l), G outputs of a side, S score levels.
"""

from pathlib import Path

from zreward_core.config import Weight
from zreward_core.images import ImageStore
from zreward_core.losses.coupling import coupling_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.sharding import place, require_divisible, unsharded
from zreward_core.stages import _training as shared
from zreward_core.stages import train_gdso
from zreward_core.stages._engine import rollout_engine
from zreward_core.stages._validation import Validation
from zreward_core.training.on_policy import on_policy_steps
from zreward_core.training.policy import RewardedPairs, exchanged_scores
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import PairSampler
from zreward_core.training.updates import History, LossAndMetrics, Reference, own_micro_batches

OUTPUT = Path("data/train_gdso_coupled")


class Config(train_gdso.Config):
    """Group-wise Direct Score Optimization with a coupling loss."""

    alpha_coupling: Weight = 1.0
    """Weight of the coupling loss (0 in the paper)."""


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
    checkpoint = Checkpoint("train_gdso_coupled", config, sources.values())
    history: History = []
    if config.steps:
        require_divisible(config.pairs_per_step, "train_gdso_coupled.pairs_per_step")
        sampler = PairSampler(backbone, items, all_pairs, ImageStore(*shared.IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)
        validation = Validation(
            backbone, "train_gdso_coupled", config, config.seed, checkpoint, reasoning=True
        )
        for step in on_policy_steps(
            backbone,
            "train_gdso_coupled",
            checkpoint,
            history,
            validation=validation,
            engine=rollout_engine("train_gdso_coupled", backbone, trains=True),
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
            batch, step.metrics = train_gdso.reward(backbone, config, pairs, rollouts)
            for _ in range(config.updates_per_batch):  # K_gdso updates of pi
                step.update(
                    objective(backbone, config, batch, part, step.reference)
                    for part in own_micro_batches(config.pairs_per_step, config.micro_batch_pairs)
                )
        backbone = unsharded(backbone, lambda: open_backbone(base, config, config.seed))
    shared.save_trained(OUTPUT / "teacher", config, backbone, history, checkpoint, sources)


def objective(
    backbone: Backbone, config: Config, batch: RewardedPairs, part: range, reference: Reference
) -> LossAndMetrics:
    """L_GDSO (14) plus the coupling loss of some pairs, divided by the counts of the batch."""
    loss, metrics = train_gdso.objective(backbone, config, batch, part, reference)
    exchanged_P2GS = exchanged_scores(backbone, batch, part)  # log q under exchanged traces
    target_P2S = batch.pairs.target_P2S[part.start : part.stop].to(backbone.device)
    coupling = coupling_loss(exchanged_P2GS, target_P2S, int(batch.pairs.scored_P.sum()))
    loss = loss + config.alpha_coupling * coupling
    return loss, metrics | {"loss/total": loss.item(), "loss/coupling": coupling.item()}
