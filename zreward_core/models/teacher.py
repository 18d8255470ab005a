"""The reasoning teacher as a judge: score distributions averaged over sampled traces.

Shapes: B images, D dimensions, Q queries, G traces of a query, S levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zreward_core.models.backbone import Backbone, load_backbone
from zreward_core.models.rollouts import Rollouts, sample_rollouts
from zreward_core.models.score_decoder import expected_score, require_finite_scores
from zreward_core.schemas import digest


@dataclass
class Judged:
    """The teacher's judgement of Q queries."""

    probs: torch.Tensor
    """[Q, S] distribution over levels, averaged over traces."""
    spread: torch.Tensor
    """[Q] standard deviation of the expected score between traces, in rubric units."""
    mass: torch.Tensor
    """[Q] total probability of the score tokens, averaged over traces."""
    traces: list[str]
    """First trace of each query."""
    num_tokens: torch.Tensor
    """[Q] output tokens (trace, closing and score), averaged over traces."""
    rollouts: Rollouts
    """The Q x G traces."""


def judge_queries(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    queries: Sequence[tuple[int, int]],
    num_traces: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
) -> Judged:
    """Sample traces for queries (image, dimension) and average the distributions over them.

    Args:
        prompts: prompts of the images.
        images: resized images [3, h, w].
        queries: pairs (index of an image, index of a dimension).
        num_traces: G.
        seeds: a seed for each query; see ``query_seed``.
        temperature: 0 for greedy decoding.

    Raises:
        NotFinite: a score is not finite.
    """
    limit = backbone.prompt.max_trace_tokens
    rollouts = sample_rollouts(
        backbone, prompts, images, queries, num_traces, limit, seeds, temperature
    )
    names = [
        f"the image for {prompts[b][:80]!r} in {backbone.rubric.names[d]}"
        for b, d in queries
        for _ in range(num_traces)
    ]
    require_finite_scores(backbone.source, names, rollouts.log_probs.exp(), rollouts.mass)
    probs_QGS = rollouts.log_probs.exp().unflatten(0, (len(queries), num_traces))
    probs, spread, mass = average_traces(
        probs_QGS, rollouts.mass.unflatten(0, (len(queries), num_traces)), backbone.levels
    )
    lengths = torch.tensor([float(len(tokens)) for tokens in rollouts.tokens])
    tail = len(backbone.chat.closing) + rollouts.closed.logical_not() * 1.0
    return Judged(
        probs=probs,
        spread=spread,
        mass=mass,
        traces=[backbone.chat.text(rollouts.tokens[q * num_traces]) for q in range(len(queries))],
        num_tokens=(lengths + tail).unflatten(0, (len(queries), num_traces)).mean(1),
        rollouts=rollouts,
    )


def average_traces(
    probs_QGS: torch.Tensor, mass_QG: torch.Tensor, levels_S: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distribution [Q, S], spread [Q] and mass [Q] over the G traces of each query."""
    means_QG = expected_score(probs_QGS, levels_S)
    return probs_QGS.mean(1), means_QG.std(1, correction=0), mass_QG.mean(1)


def query_seed(seed: int, item: str, dimension: str) -> int:
    """Seed of a query's traces, independent of the other queries of a batch."""
    return int(digest(str(seed), item, dimension)[:12], 16)


class TeacherJudge:
    """A teacher that scores images in memory in all dimensions; used as a validation panel."""

    def __init__(self, backbone: Backbone, num_traces: int = 1, seed: int = 0) -> None:
        self.backbone = backbone
        self.num_traces = num_traces
        self.seed = seed
        self.dimensions = backbone.rubric.names

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        num_traces: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> "TeacherJudge":
        """Load a teacher's folder.

        Raises:
            UserError: the folder is missing or not a model of this project.
        """
        backbone = load_backbone(folder, dtype)
        backbone.network.to(device)
        return cls(backbone, num_traces, seed)

    def score(
        self, prompts: Sequence[str], pixels: torch.Tensor, batch_size: int = 32
    ) -> torch.Tensor:
        """Expected scores [B, D] of pixels [B, 3, H, W] in [0, 1]; seeds depend on the prompt."""
        means = []
        for start in range(0, len(prompts), batch_size):
            chosen = list(prompts[start : start + batch_size])
            images = list(self.backbone.pixels.resize(pixels[start : start + batch_size]))
            queries = [(b, d) for b in range(len(chosen)) for d in range(len(self.dimensions))]
            seeds = [query_seed(self.seed, chosen[b], self.dimensions[d]) for b, d in queries]
            judged = judge_queries(self.backbone, chosen, images, queries, self.num_traces, seeds)
            probs = judged.probs.unflatten(0, (len(chosen), len(self.dimensions)))
            means.append(expected_score(probs, self.backbone.levels))
        return torch.cat(means)
