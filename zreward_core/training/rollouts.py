"""Rollouts of the current policy during training, and the metrics recorded of them.

Shapes: B inputs (an image, its prompt, a dimension), G outputs of an input, N = B x G outputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from zreward_core.adapters import adapter_weights
from zreward_core.losses.importance import truncated_importance_weights
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, join_rollouts, sample_rollouts
from zreward_core.runtime.distributed import from_main, gather, own_part, precision
from zreward_core.runtime.sharding import full_tensors, gathered
from zreward_core.runtime.worker import is_main


def roll_out(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    dimensions: Sequence[int],
    group_size: int,
    temperature: float,
    rng: np.random.Generator,
    batch_size: int | None = None,
) -> Rollouts:
    """Sample G outputs of each input from the current policy.

    Each process samples its share of the inputs and receives those of all others.

    Args:
        images: B resized images [3, h, w].
        dimensions: B indices of dimensions.
        group_size: G.
        rng: source of the B seeds.
        batch_size: inputs sampled together, to bound the memory of the caches; all of the
            process's share by default, and with an engine, which divides them itself.
    """
    seeds = rng.integers(2**48, size=len(dimensions)).tolist()
    own = own_part(len(dimensions))
    if batch_size is None or backbone.engine is not None:
        batch_size = max(len(own), 1)
    sampled = []
    renew_engine(backbone)
    backbone.network.eval()  # with gradient checkpointing a model in train mode keeps no cache
    with gathered(backbone.network), precision():
        for start in range(own.start, own.stop, batch_size):
            rows = slice(start, min(start + batch_size, own.stop))
            found = sample_rollouts(
                backbone,
                prompts[rows],
                images[rows],
                list(enumerate(dimensions[rows])),
                group_size,
                backbone.prompt.max_trace_tokens,
                seeds[rows],
                temperature,
            )
            sampled.append(found)
    backbone.network.train()
    return join_rollouts(gather(sampled))


def renew_engine(backbone: Backbone) -> None:
    """Send the adapter's current weights to the engine, if there is one; every process calls it."""
    if backbone.engine is None:
        return
    state = full_tensors(adapter_weights(backbone.adapted))
    if is_main():
        backbone.engine.renew(backbone.adapted, state)
    backbone.engine.adapter = from_main(backbone.engine.adapter)


def importance_weights(
    rollouts: Rollouts, rows: slice, like_NT: torch.Tensor
) -> torch.Tensor | None:
    """Weights of the tokens of some rows, for losses; None if the policy has sampled them.

    Args:
        like_NT: the log-probabilities of these rows: padding, and the score token that follows the
            longest trace (which the policy samples itself), have weight 1.
    """
    if rollouts.log_ratios is None:
        return None
    ratios_NT = torch.zeros_like(like_NT)
    for n, ratios in enumerate(rollouts.log_ratios[rows]):
        ratios_NT[n, : len(ratios)] = torch.tensor(ratios)
    return truncated_importance_weights(ratios_NT)


def rollout_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Mean trace length (tokens), share of traces the model closed, mass on the score tokens.

    With an engine also the mean difference (nats) between its log-probabilities of the tokens and
    the policy's, and the largest.
    """
    metrics = {
        "trace/length": float(np.mean([float(len(tokens)) for tokens in rollouts.tokens])),
        "trace/closed": rollouts.closed.float().mean().item(),
        "score/mass": rollouts.mass.mean().item(),
    }
    if rollouts.log_ratios is not None:
        gaps = np.abs([ratio for row in rollouts.log_ratios for ratio in row])
        metrics |= {"engine/gap": float(gaps.mean()), "engine/largest_gap": float(gaps.max())}
    return metrics


def thorough_share(
    rollouts: Rollouts, names: Sequence[str], limits: Mapping[str, int]
) -> dict[str, float]:
    """Share of thorough traces among those of the dimensions with a limit; empty if none is drawn.

    Args:
        rollouts: G outputs of each input.
        names: B names of dimensions.
        limits: number of tokens from which a trace of a dimension counts as thorough.
    """
    group = len(rollouts.tokens) // len(names)
    reached = [
        len(rollouts.tokens[b * group + g]) >= limits[name]
        for b, name in enumerate(names)
        if name in limits
        for g in range(group)
    ]
    return {"trace/thorough": float(np.mean(reached))} if reached else {}
