"""train_grpo: items, pairs, base -> a teacher by GRPO alone (method, section 6).

Pointwise rewards, no pairwise ones and no direct losses. train_gdso is this and more.
Shapes: P pairs, 2 sides, G traces of a side, N = P x 2 x G rows, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.gdso import pointwise_reward
from zreward_core.losses.grpo import group_advantages, grpo_loss
from zreward_core.models.backbone import Backbone, TrainedWeights, load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts, join_rollouts, read_scores, sample_rollouts
from zreward_core.models.traces import TraceLogProbs, trace_log_probs
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.sharding import place, require_divisible, unsharded, using
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, PAIRS, read_table
from zreward_core.training.loops import History, OnPolicyConfig, Part, on_policy, sample_together
from zreward_core.training.samplers import PairBatch, PairSampler

OUTPUT = Path("data/train_grpo")
BASES = Path("data/base_vlm")
ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(OnPolicyConfig, TrainedWeights):
    """Group Relative Policy Optimization on annotated scores."""

    base: Literal["teacher", "student"] = "teacher"
    """Which base is trained."""
    pairs_per_step: int = Field(8, ge=1)
    """Same-prompt pairs a batch."""
    group_size: int = Field(6, ge=1)
    """G, traces a side of a pair."""
    micro_batch_pairs: int = Field(8, ge=1)
    """Pairs a forward pass; gradients add up to those of the whole batch."""
    temperature: float = 1.0
    """Sampling temperature of the traces."""
    beta: float = 0.01
    """Weight of the KL divergence to the reference policy (equation 4)."""
    reward_from: Literal["distribution", "text"] = "distribution"
    """Whether rewards read the mean of the distribution or the score token that was sampled."""
    count_score_token: bool = False
    """Count the sampled score token in equation 4, as where rewards are read from the text."""
    thorough: dict[str, int] = {}
    """Dimension to the tokens from which a trace counts as a thorough inspection; what share of the
    traces of these dimensions does so is recorded beside their length."""


@dataclass
class Rewarded:
    """Pairs with their rollouts and what these are worth."""

    batch: PairBatch
    rollouts: Rollouts
    rewards_P2G: torch.Tensor
    """NaN where an output has no score."""
    advantages_P2G: torch.Tensor


Rewarding = tuple[Rewarded, dict[str, float]]
"""A rewarded batch, and what is to be seen of it."""
AnyConfig = TypeVar("AnyConfig", bound=Config)


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    train_on_pairs(OUTPUT, config, reward, loss_of)


def train_on_pairs(
    output: Path,
    config: AnyConfig,
    reward_of: Callable[[Backbone, AnyConfig, PairBatch, Rollouts], Rewarding],
    loss_of: Callable[[Backbone, AnyConfig, Rewarded, range, list[torch.Tensor]], Part],
) -> None:
    """Algorithm 1: sample pairs, roll out, reward, update; then write what was trained.

    Args:
        output: folder, whose name is the stage's.
        reward_of: what rollouts are worth.
        loss_of: loss of some pairs of a batch, given the weights of the reference policy.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    items, pairs = training_pairs()
    base = BASES / config.base
    backbone = load_backbone(base, config.dtype)
    checkpoint = Checkpoint(output.name, config, [base, ITEMS_FILE, PAIRS_FILE, *IMAGES])
    history: History = []
    if config.steps:
        require_divisible(config.pairs_per_step, f"{output.name}.pairs_per_step")
        sampler = PairSampler(backbone, items, pairs, ImageStore(*IMAGES))
        backbone.train_mode(config.lora, config.gradient_checkpointing, config.seed)
        place(backbone.network)

        def sample(rng: np.random.Generator) -> Rewarding:
            batch = sampler.draw(config.pairs_per_step, rng)
            return reward_of(backbone, config, batch, roll_out(backbone, config, batch, rng))

        history = on_policy(
            backbone,
            config,
            output.name,
            (config.pairs_per_step, config.micro_batch_pairs),
            sample,
            partial(loss_of, backbone, config),
            checkpoint,
        )
        backbone = unsharded(backbone, lambda: open_backbone(base, config))
    if is_main():
        with whole_output(output, config) as folder:
            lineage = {
                "stage": output.name,
                "base": tree_hash(base),
                "pairs": tree_hash(PAIRS_FILE),
                "items": tree_hash(ITEMS_FILE),
            }
            backbone.save(folder / "teacher", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def training_pairs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items and pairs to train on, items with images only.

    Raises:
        UserError: no training pair, or a file is missing.
    """
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    items, pairs = (table[table["split"] == "train"] for table in (items, pairs))
    if pairs.empty:
        raise UserError(f"{PAIRS_FILE} has no training pair: annotate several images a prompt")
    return items[items["image_id"].notna()], pairs


def reward(backbone: Backbone, config: Config, batch: PairBatch, rollouts: Rollouts) -> Rewarding:
    """Equation 7 for each output."""
    scores_P2G = group_scores(backbone, config, batch, rollouts)
    span = backbone.rubric.maximum - backbone.rubric.minimum
    rewards_P2G = pointwise_reward(scores_P2G, batch.scores_P2, span)
    return advantages_of(backbone, config, batch, rollouts, rewards_P2G)


def loss_of(
    backbone: Backbone,
    config: Config,
    rewarded: Rewarded,
    chosen: range,
    reference: list[torch.Tensor],
) -> Part:
    """Equation 4 for some pairs of a batch, divided by the counts of the whole batch."""
    loss, _, drift = policy_loss(backbone, config, rewarded, chosen, reference)
    return loss, {"loss/total": loss.item(), "policy/drift": drift}


def roll_out(
    backbone: Backbone, config: Config, batch: PairBatch, rng: np.random.Generator
) -> Rollouts:
    """G traces of each side of each pair, from the policy as it is."""
    seeds = rng.integers(2**48, size=len(batch.dimensions)).tolist()

    def sample_part(own: range) -> Rollouts:
        sides = slice(2 * own.start, 2 * own.stop)
        return sample_rollouts(
            backbone,
            batch.prompts[sides],
            batch.images[sides],
            list(enumerate(batch.dimensions[sides])),
            config.group_size,
            backbone.prompt.max_trace_tokens,
            seeds[sides],
            config.temperature,
        )

    return join_rollouts(sample_together(backbone.network, len(batch.scores_P2), sample_part))


def thorough_share(config: Config, names: list[str], rollouts: Rollouts) -> dict[str, float]:
    """Share of thorough traces among those of dimensions with a limit; nothing where none is drawn.

    Args:
        names: the dimension of each side.
        rollouts: G traces a side.
    """
    reached = [
        len(rollouts.tokens[side * config.group_size + g]) >= config.thorough[name]
        for side, name in enumerate(names)
        if name in config.thorough
        for g in range(config.group_size)
    ]
    return {"trace/thorough": float(np.mean(reached))} if reached else {}


def group_scores(
    backbone: Backbone, config: Config, batch: PairBatch, rollouts: Rollouts
) -> torch.Tensor:
    """Scores [P, 2, G] that outputs are rewarded for; NaN where a text says none."""
    scores_N = read_scores(backbone, rollouts, config.reward_from == "text")
    return scores_N.unflatten(0, (len(batch.scores_P2), 2, config.group_size))


def advantages_of(
    backbone: Backbone,
    config: Config,
    batch: PairBatch,
    rollouts: Rollouts,
    rewards_P2G: torch.Tensor,
) -> Rewarding:
    """Advantages within each side's group (equation 3), and what is to be seen of the batch."""
    advantages_P2G = group_advantages(rewards_P2G.flatten(0, 1)).unflatten(0, (-1, 2))
    known = rewards_P2G[~rewards_P2G.isnan()]
    metrics = {
        "trace/length": float(np.mean([float(len(tokens)) for tokens in rollouts.tokens])),
        "trace/closed": rollouts.closed.float().mean().item(),
        "score/mass": rollouts.mass.mean().item(),
    }
    if len(known):
        metrics["reward/mean"] = known.mean().item()
    if config.thorough:
        names = [backbone.rubric.names[dimension] for dimension in batch.dimensions]
        metrics |= thorough_share(config, names, rollouts)
    if config.reward_from == "text":
        metrics["score/readable"] = len(known) / rewards_P2G.numel()
    return Rewarded(batch, rollouts, rewards_P2G, advantages_P2G), metrics


def policy_loss(
    backbone: Backbone,
    config: Config,
    rewarded: Rewarded,
    chosen: range,
    reference: list[torch.Tensor],
) -> tuple[torch.Tensor, TraceLogProbs, float]:
    """Equation 4 for some pairs of a batch, divided by the outputs of the whole that count.

    Returns:
        the loss; what the policy makes of the traces, gradients passing; how far it has moved
        from the reference (nats an output).
    """
    batch, rollouts = rewarded.batch, rewarded.rollouts
    sides = slice(2 * chosen.start, 2 * chosen.stop)
    rows = slice(sides.start * config.group_size, sides.stop * config.group_size)
    with_answers = config.count_score_token or config.reward_from == "text"
    read = partial(
        trace_log_probs,
        backbone,
        batch.prompts[sides],
        batch.images[sides],
        batch.dimensions[sides],
        rollouts.tokens[rows],
        config.temperature,
        rollouts.answers[rows] if with_answers else None,
    )
    reference_NT = None
    if config.beta:
        with torch.no_grad(), using(backbone, reference), precision():
            reference_NT = read().log_probs_NT
    with precision():
        found = read()
    if reference_NT is None:
        reference_NT = found.log_probs_NT.detach()
    known_P2G = ~rewarded.rewards_P2G.isnan()
    known_N = known_P2G[chosen.start : chosen.stop].flatten().to(backbone.device)
    mask_NT = found.mask_NT & known_N[:, None]
    advantages_N = rewarded.advantages_P2G[chosen.start : chosen.stop].flatten()
    num_outputs = int(known_P2G.sum())
    loss = grpo_loss(
        found.log_probs_NT,
        reference_NT,
        advantages_N.to(backbone.device),
        mask_NT,
        config.beta,
        num_outputs,
    )
    moved = torch.where(mask_NT, found.log_probs_NT.detach() - reference_NT, 0.0)
    return loss, found, moved.sum().item() / max(num_outputs, 1)
