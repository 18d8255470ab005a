"""train_gdso: items, pairs, teacher base -> teacher (method, section 4, algorithm 1)."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from zreward_core.config import StageConfig, UserError
from zreward_core.images import ImageStore
from zreward_core.losses.gdso import (
    combined_reward,
    gdso_objective,
    pairwise_loss,
    pairwise_reward,
    pointwise_loss,
    pointwise_reward,
)
from zreward_core.losses.grpo import group_advantages, grpo_loss
from zreward_core.models.backbones import Backbone, LoraSettings, load_backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, sample_rollouts
from zreward_core.models.score_decoder import expected_score, mass_loss, score_log_probs
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.distributed import (
    add_gradients,
    add_up,
    gather,
    own_part,
    precision,
)
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track, write_history
from zreward_core.runtime.sharding import (
    even,
    gathered,
    place,
    restore,
    spread,
    unsharded,
    using,
    whole,
)
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, PAIRS, read_table

logger = logging.getLogger(__name__)
OUTPUT = Path("data/train_gdso")
BASE = Path("data/base_vlm/teacher")
ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(StageConfig):
    """Group-wise Direct Score Optimization of the teacher."""

    steps: int = Field(200, ge=0)
    """Batches of pairs sampled in all (N x M of algorithm 1); 0 leaves the base as it is."""
    iterations: int = Field(1, ge=1)
    """Outer iterations N; at the start of each the reference policy becomes the policy."""
    updates_per_batch: int = Field(1, ge=1)
    """K_gdso; beyond 1 the later updates are off-policy and nothing corrects for it."""
    pairs_per_step: int = Field(8, ge=1)
    """Same-prompt pairs a batch."""
    group_size: int = Field(6, ge=1)
    """G, traces a side of a pair."""
    micro_batch_pairs: int = Field(8, ge=1)
    """Pairs a forward pass; gradients add up to those of the whole batch."""
    learning_rate: float = 1e-4
    """AdamW learning rate, constant."""
    warmup_steps: int = 5
    """Steps over which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    temperature: float = 1.0
    """Sampling temperature of the traces."""
    lambda_pointwise: float = 0.5
    """Weight of the pointwise reward (equation 13)."""
    lambda_pairwise: float = 0.5
    """Weight of the pairwise reward (equation 13)."""
    alpha_pointwise: float = 1.0
    """Weight of the pointwise loss (equation 14)."""
    alpha_pairwise: float = 1.0
    """Weight of the pairwise loss (equation 14)."""
    policy_weight: float = 1.0
    """Weight of the policy gradient term (1 in equation 14)."""
    beta: float = 0.01
    """Weight of the KL divergence to the reference policy (equation 4)."""
    mass_weight: float = 0.1
    """Weight of the term that keeps probability on the score tokens (0 in the paper)."""
    lora: LoraSettings | None = None
    """Train low-rank updates instead of all weights."""
    dtype: str = "float32"
    """Torch dtype of the weights."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    checkpoint_every: int = 25
    """Steps between checkpoints."""


@dataclass
class Batch:
    """Sampled pairs: P pairs, two sides (winner, loser), S levels."""

    prompts: list[str]
    """2P prompts, side by side for each pair."""
    images: list[torch.Tensor]
    """2P resized pictures."""
    dimensions: list[int]
    """2P indices of dimensions."""
    scores_P2: torch.Tensor
    """Annotated scores."""
    target_P2S: torch.Tensor
    """Histograms of the annotated scores."""


class PairSampler:
    """Draws training pairs, every dimension as often as any other."""

    def __init__(self, backbone: Backbone, items: pd.DataFrame, pairs: pd.DataFrame) -> None:
        self.items = items.set_index(["item_id", "dimension"])
        names = backbone.rubric.names
        groups = {name: group for name, group in pairs.groupby("dimension") if len(group)}
        self.groups = [(names.index(name), groups[name]) for name in names if name in groups]
        store = ImageStore(*IMAGES)
        used = items.loc[items["item_id"].isin({*pairs["winner"], *pairs["loser"]}), "image_id"]
        self.images = {i: backbone.pixels.prepare(store.pixels(i)) for i in used.unique()}

    def draw(self, num_pairs: int, rng: np.random.Generator) -> Batch:
        """Draw a batch."""
        prompts, images, dimensions, scores, targets = [], [], [], [], []
        first = rng.integers(len(self.groups))
        for index in range(num_pairs):
            dimension, group = self.groups[(first + index) % len(self.groups)]
            pair = group.iloc[int(rng.integers(len(group)))]
            for item in (pair["winner"], pair["loser"]):
                row = self.items.loc[(item, pair["dimension"])]
                prompts.append(row["prompt"])
                images.append(self.images[row["image_id"]])
                dimensions.append(dimension)
                targets.append(torch.tensor(np.asarray(row["histogram"])))
            scores.append([pair["score_w"], pair["score_l"]])
        target = torch.stack(targets).float().unflatten(0, (num_pairs, 2))
        return Batch(prompts, images, dimensions, torch.tensor(scores).float(), target)


def run(config: Config) -> None:
    """Write teacher/ and history.jsonl.

    Raises:
        UserError: no training pair, or an input is missing.
    """
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    items, pairs = (table[table["split"] == "train"] for table in (items, pairs))
    items = items[items["image_id"].notna()]
    if pairs.empty:
        raise UserError(f"{PAIRS_FILE} has no training pair: annotate several pictures a prompt")
    backbone = load_backbone(BASE, config.dtype)
    checkpoint = Checkpoint("train_gdso", config, [BASE, ITEMS_FILE, PAIRS_FILE, *IMAGES])
    history: list[dict[str, float]] = []
    if config.steps:
        sampler = PairSampler(backbone, items, pairs)
        history = train(backbone, config, sampler, checkpoint)
        backbone = unsharded(backbone, lambda: opened(config))
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            lineage = {
                "stage": "train_gdso",
                "base": tree_hash(BASE),
                "pairs": tree_hash(PAIRS_FILE),
                "items": tree_hash(ITEMS_FILE),
            }
            backbone.save(folder / "teacher", lineage)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()


def opened(config: Config) -> Backbone:
    """The base with its weights, or low-rank updates of them, open for training."""
    backbone = load_backbone(BASE, config.dtype)
    backbone.train_mode(config.lora)
    return backbone


def train(
    backbone: Backbone, config: Config, sampler: PairSampler, checkpoint: Checkpoint
) -> list[dict[str, float]]:
    """Algorithm 1: sample pairs, roll out, decode, reward, update."""
    even(config.pairs_per_step, "train_gdso.pairs_per_step")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # low-rank updates start at random
        backbone.train_mode(config.lora, config.gradient_checkpointing)
    place(backbone.network)
    optimizer = torch.optim.AdamW(
        backbone.trainable(), lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.95)
    )
    reference = backbone.snapshot()
    history: list[dict[str, float]] = []
    start = 0
    if state := checkpoint.load("state"):
        for parameter, value in zip(backbone.trainable(), state["weights"], strict=True):
            parameter.data.copy_(spread(value, parameter))
        restore(optimizer, state["optimizer"])
        kept = zip(state["reference"], reference, strict=True)
        reference = [spread(value, like) for value, like in kept]
        history, start = state["history"], state["step"]
    steps_an_iteration = -(-config.steps // config.iterations)
    for step in track(range(start, config.steps), "train_gdso", config.steps, start):
        if step % steps_an_iteration == 0:
            reference = backbone.snapshot()
        rng = np.random.default_rng([config.seed, step])
        batch = sampler.draw(config.pairs_per_step, rng)
        rollouts = roll_out(backbone, config, batch, rng)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
        metrics: dict[str, float] = {"step": step}
        for _ in range(config.updates_per_batch):
            metrics |= update(backbone, config, optimizer, batch, rollouts, reference)
        history.append(metrics)
        if (step + 1) % config.checkpoint_every == 0:
            state = {
                "step": step + 1,
                "weights": whole(backbone.snapshot()),
                "optimizer": whole(optimizer.state_dict()),
                "reference": whole(reference),
                "history": history,
            }
            checkpoint.save("state", state)
    backbone.network.eval()
    return history


def roll_out(
    backbone: Backbone, config: Config, batch: Batch, rng: np.random.Generator
) -> Rollouts:
    """G traces of each side of each pair, from the policy as it is.

    Each process samples for its own pairs and all get all of them: rewards and advantages are then
    those of one process.
    """
    seeds = rng.integers(2**48, size=len(batch.dimensions)).tolist()
    own = own_part(len(batch.scores_P2))
    sides = slice(2 * own.start, 2 * own.stop)
    sampled = []
    backbone.network.eval()  # with gradient checkpointing a training model keeps no cache
    with gathered(backbone.network), precision():
        if own:
            rollouts = sample_rollouts(
                backbone,
                batch.prompts[sides],
                batch.images[sides],
                list(enumerate(batch.dimensions[sides])),
                config.group_size,
                backbone.prompt.max_trace_tokens,
                seeds[sides],
                config.temperature,
            )
            sampled.append(rollouts)
    backbone.network.train()
    return join_rollouts(gather(sampled))


def join_rollouts(parts: list[Rollouts]) -> Rollouts:
    """Rollouts of neighbouring parts of a batch as those of the batch."""
    return Rollouts(
        tokens=[tokens for part in parts for tokens in part.tokens],
        closed=torch.cat([part.closed for part in parts]),
        log_probs=torch.cat([part.log_probs for part in parts]),
        mass=torch.cat([part.mass for part in parts]),
    )


def update(
    backbone: Backbone,
    config: Config,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rollouts: Rollouts,
    reference: list[torch.Tensor],
) -> dict[str, float]:
    """One optimizer step on a batch, each process with its own pairs; returns its metrics."""
    rewards, advantages, metrics = rewards_of(backbone, config, batch, rollouts)
    own = own_part(len(batch.scores_P2))
    totals: dict[str, float] = {}
    for start in range(own.start, own.stop, config.micro_batch_pairs):
        chosen = range(start, min(start + config.micro_batch_pairs, own.stop))
        loss, parts = gdso_loss(backbone, config, batch, rollouts, advantages, reference, chosen)
        loss.backward()
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value
    add_gradients(backbone.trainable())
    norm = torch.nn.utils.clip_grad_norm_(backbone.trainable(), config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    lengths = [float(len(tokens)) for tokens in rollouts.tokens]
    return (
        metrics
        | add_up(totals)
        | {
            "reward/mean": rewards.mean().item(),
            "trace/length": float(np.mean(lengths)),
            "trace/closed": rollouts.closed.float().mean().item(),
            "score/mass": rollouts.mass.mean().item(),
            "grad_norm": float(whole(norm)),
        }
    )


def rewards_of(
    backbone: Backbone, config: Config, batch: Batch, rollouts: Rollouts
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Rewards and advantages [P, 2, G] of a batch's traces (equations 3, 6, 7, 10, 13)."""
    num_pairs, group = len(batch.scores_P2), config.group_size
    means_P2G = expected_score(rollouts.log_probs.exp(), backbone.levels.cpu())
    means_P2G = means_P2G.unflatten(0, (num_pairs, 2, group))
    span = backbone.rubric.maximum - backbone.rubric.minimum
    pointwise = pointwise_reward(means_P2G, batch.scores_P2, span)
    pairwise = pairwise_reward(means_P2G, batch.scores_P2, span)
    rewards = combined_reward(pointwise, pairwise, config.lambda_pointwise, config.lambda_pairwise)
    advantages = group_advantages(rewards.flatten(0, 1)).unflatten(0, (num_pairs, 2))
    metrics = {
        "reward/pointwise": pointwise.mean().item(),
        "reward/pairwise": pairwise.mean().item(),
    }
    return rewards, advantages, metrics


def gdso_loss(
    backbone: Backbone,
    config: Config,
    batch: Batch,
    rollouts: Rollouts,
    advantages_P2G: torch.Tensor,
    reference: list[torch.Tensor],
    chosen: range,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Equation 14 for some pairs of a batch, divided by the counts of the whole batch."""
    num_pairs, group = len(batch.scores_P2), config.group_size
    sides = range(2 * chosen.start, 2 * chosen.stop)
    rows = range(sides.start * group, sides.stop * group)
    traces = [rollouts.tokens[n] for n in rows]
    reference_NT = None
    if config.beta:
        with torch.no_grad(), using(backbone, reference):
            reference_NT = trace_log_probs(backbone, config, batch, traces, sides)[0]
    log_probs_NT, mask_NT, scores_NS, mass_N = trace_log_probs(
        backbone, config, batch, traces, sides
    )
    if reference_NT is None:
        reference_NT = log_probs_NT.detach()
    advantages_N = advantages_P2G[chosen.start : chosen.stop].flatten().to(backbone.device)
    num_outputs = num_pairs * 2 * group
    policy = grpo_loss(log_probs_NT, reference_NT, advantages_N, mask_NT, config.beta, num_outputs)
    scores_P2GS = scores_NS.unflatten(0, (len(chosen), 2, group))
    means_P2G = expected_score(scores_P2GS.exp(), backbone.levels)
    target = batch.target_P2S[chosen.start : chosen.stop].to(backbone.device)
    annotated = batch.scores_P2[chosen.start : chosen.stop].to(backbone.device)
    span = backbone.rubric.maximum - backbone.rubric.minimum
    pointwise = pointwise_loss(scores_P2GS, target, num_pairs)
    pairwise = pairwise_loss(means_P2G, annotated, span, num_pairs)
    loss = gdso_objective(
        config.policy_weight * policy,
        pointwise,
        pairwise,
        config.alpha_pointwise,
        config.alpha_pairwise,
    )
    loss = loss + config.mass_weight * mass_loss(mass_N, num_outputs)
    moved = torch.where(mask_NT, log_probs_NT.detach() - reference_NT, 0.0)
    return loss, {
        "loss/total": loss.item(),
        "loss/pointwise": pointwise.item(),
        "loss/pairwise": pairwise.item(),
        "policy/drift": moved.sum().item() / num_outputs,
    }


def trace_log_probs(
    backbone: Backbone, config: Config, batch: Batch, traces: list[list[int]], sides: range
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One forward over closed traces, G for each side.

    Returns:
        log-probabilities of the sampled tokens [N, T] and their mask, log q [N, S], mass [N].
    """
    chat, group = backbone.chat, config.group_size
    tails = [closed_sequence(backbone, trace) for trace in traces]
    num_last = max(len(tail) for tail in tails) + 1
    prefixes = [
        backbone.prefix(batch.prompts[side], batch.images[side])
        + chat.questions[batch.dimensions[side]]
        for side in sides
    ]
    rows = [prefixes[n // group] + tail for n, tail in enumerate(tails)]
    images = [batch.images[side] for side in sides]
    with precision():
        logits = backbone.logits(rows, images, [n // group for n in range(len(rows))], num_last)
    longest = max(len(trace) for trace in traces)
    at = torch.zeros(len(rows), longest, dtype=torch.long)
    token = torch.zeros_like(at)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for n, (trace, tail) in enumerate(zip(traces, tails, strict=True)):
        first = num_last - 1 - len(tail)
        at[n, : len(trace)] = torch.arange(first, first + len(trace))
        token[n, : len(trace)] = torch.tensor(trace)
        mask[n, : len(trace)] = True
    at, token, mask = (value.to(logits.device) for value in (at, token, mask))
    allowed = logits.float() / (config.temperature or 1.0)
    allowed = allowed.index_fill(-1, torch.tensor(chat.forbidden, device=logits.device), -torch.inf)
    normaliser = torch.logsumexp(allowed, -1)
    picked = torch.arange(len(rows), device=logits.device)[:, None]
    log_probs = allowed[picked, at, token] - normaliser[picked, at]
    scores, mass = score_log_probs(logits[:, -1], backbone.label_ids)
    return log_probs, mask, scores, mass
