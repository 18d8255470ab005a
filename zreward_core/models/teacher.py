"""The reasoning teacher as a judge: score distributions averaged over sampled traces.

Shapes: B images, D dimensions, Q queries, G traces of a query, S levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from zreward_core.arguments import whole_number
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import Role
from zreward_core.models.explanation import Explanation
from zreward_core.models.inputs import ImageLike, in_pairs
from zreward_core.models.judge import Judge
from zreward_core.models.opening import open_model
from zreward_core.models.rollouts import Rollouts, sample_rollouts
from zreward_core.models.score_decoder import expected_score, require_finite_scores
from zreward_core.models.torch_state import on_cpu_by_default, without_autocast
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
    lengths = torch.tensor([len(tokens) for tokens in rollouts.tokens], dtype=torch.float32)
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


class TeacherJudge(Judge):
    """A teacher that scores after reasoning about one dimension at a time.

    The seeds of an image's traces depend on the prompt and the dimension, so a score depends on the
    rest of its batch only by rounding, which can change a sampled token.
    """

    role: ClassVar[Role] = "teacher"

    def __init__(
        self, backbone: Backbone, num_traces: int = 1, seed: int = 0, batch_size: int = 32
    ) -> None:
        super().__init__(backbone, batch_size)
        self.num_traces = whole_number("num_traces", num_traces)
        self.seed = whole_number("seed", seed, least=0)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        num_traces: int = 1,
        seed: int = 0,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        revision: str | None = None,
        batch_size: int = 32,
    ) -> "TeacherJudge":
        """Load a teacher; for the other arguments see ``RewardModel.from_pretrained``.

        Args:
            num_traces: traces over which a distribution is averaged.
            seed: of the traces.

        Raises:
            UserError: as there; the model is a student.
        """
        batch_size = whole_number("batch_size", batch_size)  # before the weights are loaded
        num_traces, seed = whole_number("num_traces", num_traces), whole_number("seed", seed, 0)
        backbone = open_model(source, cls.role, device, dtype, revision)
        return cls(backbone, num_traces, seed, batch_size)

    def judge(
        self, prompts: Sequence[str], images: Sequence[torch.Tensor], chosen: Sequence[int]
    ) -> Judged:
        """The judgement of B resized images in D dimensions: Q = B x D queries, in this order."""
        names = self.dimensions
        queries = [(b, d) for b in range(len(prompts)) for d in chosen]
        seeds = [query_seed(self.seed, prompts[b], names[d]) for b, d in queries]
        return judge_queries(self.backbone, prompts, images, queries, self.num_traces, seeds)

    @torch.no_grad()
    @without_autocast()
    @on_cpu_by_default()
    def explain(
        self,
        prompt: str,
        image: ImageLike,
        student: Judge | None = None,
        dimensions: Sequence[str] | None = None,
    ) -> Explanation:
        """The teacher's reasoning about an image, and its distribution beside the student's.

        Args:
            student: a model of the same rubric.
            dimensions: names of the dimensions; all if None.

        Raises:
            UserError: as for ``score``; the student has another rubric.
            NotFinite: a score is not finite.
        """
        if not isinstance(student, Judge | None):
            raise UserError(f"the student is of type {type(student).__name__}: pass a RewardModel")
        if student is not None and student.backbone.rubric != self.backbone.rubric:
            raise UserError(
                f"{student.backbone.source} has another rubric than {self.backbone.source}: their"
                " scores cannot be compared"
            )
        chosen = self._chosen(dimensions)
        rows = list(self._rows(in_pairs([prompt], [image]), 0, keep_errors=False))
        prompts, images = (list(one) for one in zip(*rows, strict=True))
        judged = self.judge(prompts, images, chosen)
        texts = [self.backbone.chat.text(tokens) for tokens in judged.rollouts.tokens]
        return Explanation(
            prompt,
            {
                self.dimensions[d]: texts[q * self.num_traces : (q + 1) * self.num_traces]
                for q, d in enumerate(chosen)
            },
            self._wrapped(judged.probs[None], judged.mass[None], chosen),
            None if student is None else student.score([prompt], [image], dimensions),
        )

    def _distributions(
        self, prompts: list[str], images: list[torch.Tensor], chosen: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [
            self.judge(
                prompts[start : start + self.batch_size], images[start:][: self.batch_size], chosen
            )
            for start in range(0, len(prompts), self.batch_size)
        ]
        probs, mass = (
            torch.cat([getattr(one, name) for one in parts]) for name in ("probs", "mass")
        )
        return probs.unflatten(0, (-1, len(chosen))), mass.unflatten(0, (-1, len(chosen)))
