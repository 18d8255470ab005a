"""Rollouts of the current policy during training, and the metrics recorded of them.

Shapes: B inputs (an image, its prompt, a dimension), G outputs of an input, N = B x G outputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, join_rollouts, sample_rollouts
from zreward_core.runtime.distributed import gather, own_part, precision
from zreward_core.runtime.sharding import gathered


def roll_out(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    dimensions: Sequence[int],
    group_size: int,
    temperature: float,
    rng: np.random.Generator,
) -> Rollouts:
    """Sample G outputs of each input from the current policy.

    Each process samples its share of the inputs and receives those of all others.

    Args:
        images: B resized images [3, h, w].
        dimensions: B indices of dimensions.
        group_size: G.
        rng: source of the B seeds.
    """
    seeds = rng.integers(2**48, size=len(dimensions)).tolist()
    own = own_part(len(dimensions))
    rows = slice(own.start, own.stop)
    sampled = []
    backbone.network.eval()  # with gradient checkpointing a model in train mode keeps no cache
    with gathered(backbone.network), precision():
        if own:
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


def rollout_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Mean trace length (tokens), share of traces the model closed, mass on the score tokens."""
    return {
        "trace/length": float(np.mean([float(len(tokens)) for tokens in rollouts.tokens])),
        "trace/closed": rollouts.closed.float().mean().item(),
        "score/mass": rollouts.mass.mean().item(),
    }


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
