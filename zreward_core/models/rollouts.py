"""Reasoning rollouts: sampled traces, closing tokens, and the score distribution after them.

The traces of an image share one pass over system text, image and prompt. A cache may hold
recurrent states, so its rows are selected by ``reorder_cache`` and continued without padding: each
call feeds the same number of tokens to all rows, and a row whose question is longer than another's
is fed the rest of it while the other is sampled.

Shapes: I images with their prompts, Q queries (an image and a dimension), G traces per query,
N = Q x G rows (of a call: those still in the batch), S levels, T tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import Logits, expected_score, score_log_probs


@dataclass
class Rollouts:
    """Traces of N = Q x G rows, those of a query adjacent."""

    tokens: list[list[int]]
    """Sampled tokens of each row, with the closing token if it was sampled."""
    closed: torch.Tensor
    """[N] whether the closing token was sampled within the limit."""
    log_probs: torch.Tensor
    """[N, S] log of q(s | p, I, d, trace)."""
    mass: torch.Tensor
    """[N] total probability of the score tokens."""
    answers: torch.Tensor
    """[N] token sampled at the score position, from the whole vocabulary."""
    log_ratios: list[list[float]] | None = None
    """Of each token, its log-probability under this model minus that under the engine which has
    sampled it; None if this model has sampled it."""


@torch.no_grad()
def sample_rollouts(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    queries: Sequence[tuple[int, int]],
    num_traces: int,
    max_tokens: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
    asked: Sequence[list[int]] | None = None,
) -> Rollouts:
    """Sample traces and decode the score distribution after each.

    If the backbone has an engine, this samples the traces: others than here, of the same
    distribution.

    Args:
        prompts: I prompts.
        images: I resized images [3, h, w].
        queries: Q pairs (index of an image, index of a dimension).
        num_traces: G.
        max_tokens: limit of a trace, which is closed there if it has not ended before.
        seeds: Q seeds; a query's traces depend on its seed, not on the rest of the batch.
        temperature: 0 for greedy decoding.
        asked: Q token sequences that replace the questions of the dimensions.
    """
    if backbone.engine is not None:
        return backbone.engine.sample_rollouts(
            backbone, prompts, images, queries, num_traces, max_tokens, seeds, temperature, asked
        )
    if asked is None:
        asked = [backbone.chat.questions[dimension] for _, dimension in queries]
    rows = [
        _Row(uniform, list(question))
        for question, seed in zip(asked, seeds, strict=True)
        for uniform in _uniforms(seed, num_traces, max_tokens).tolist()
    ]
    context = _prefill(backbone, prompts, images)
    image_N = torch.tensor([image for image, _ in queries]).repeat_interleave(num_traces)
    context.select(image_N.to(backbone.device))
    _decode(backbone, context, rows, temperature)
    log_probs, mass, answers = zip(*(row.score for row in rows if row.score), strict=True)
    return Rollouts(
        tokens=[row.tokens for row in rows],
        closed=torch.tensor([row.tokens[-1] == backbone.chat.close_id for row in rows]),
        log_probs=torch.stack(log_probs).cpu(),
        mass=torch.stack(mass).cpu(),
        answers=torch.tensor(answers),
    )


def join_rollouts(parts: Sequence[Rollouts]) -> Rollouts:
    """Concatenate the rollouts of the parts of a batch, in order."""
    by_engine = [part.log_ratios for part in parts if part.log_ratios is not None]
    return Rollouts(
        tokens=[tokens for part in parts for tokens in part.tokens],
        closed=torch.cat([part.closed for part in parts]),
        log_probs=torch.cat([part.log_probs for part in parts]),
        mass=torch.cat([part.mass for part in parts]),
        answers=torch.cat([part.answers for part in parts]),
        log_ratios=[row for ratios in by_engine for row in ratios] if by_engine else None,
    )


def read_scores(backbone: Backbone, rollouts: Rollouts, from_text: bool) -> torch.Tensor:
    """Score of each row [N]: the mean of its distribution (equation 6), or its sampled answer.

    An answer that is not a level's label has no score: NaN, to be counted and excluded.
    """
    levels = backbone.levels.cpu()
    if not from_text:
        return expected_score(rollouts.log_probs.exp(), levels)
    matches_NS = rollouts.answers[:, None] == backbone.label_ids.cpu()
    return torch.where(matches_NS.any(1), (matches_NS * levels).sum(1), torch.nan)


def closed_sequence(backbone: Backbone, trace: list[int]) -> list[int]:
    """A sampled trace followed by the rest of the closing."""
    closing = backbone.chat.closing
    return trace + (closing[1:] if trace and trace[-1] == backbone.chat.close_id else closing)


def pick_tokens(
    logits: torch.Tensor, forbidden: list[int], uniform: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Next tokens [N] from logits [N, V]: inverse of the cumulative distribution at uniform [N].

    Forbidden tokens (image, vision and chat tokens) have probability zero; temperature 0 takes
    the most likely token.
    """
    never = torch.tensor(forbidden, dtype=torch.long, device=logits.device)
    logits = logits.index_fill(-1, never, -torch.inf)
    if temperature == 0.0:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
    return (
        (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)
    )


def _uniforms(seed: int, num_traces: int, max_tokens: int) -> torch.Tensor:
    """[G, T + 1] uniform numbers that select the tokens of a query's traces and its answers."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.rand(num_traces, size, generator=generator, dtype=torch.float32)
        for size in (max_tokens, 1)
    ]
    return torch.cat(parts, 1)


@dataclass
class _Row:
    """A trace while it is sampled."""

    uniform: list[float]
    """T + 1 uniform numbers, see ``_uniforms``."""
    pending: list[int]
    """Tokens to feed that are known: of the question, the last sampled one, the closing."""
    tokens: list[int] = field(default_factory=list)
    """Sampled tokens."""
    ended: bool = False
    """Whether the trace has ended and the closing is pending or fed."""
    score: tuple[torch.Tensor, torch.Tensor, int] | None = None
    """Log-probabilities [S], mass and answer at the score position; None until it is reached."""

    @property
    def next_uniform(self) -> float:
        """Depends on the row's own sampled tokens alone, whatever the batch feeds meanwhile."""
        return self.uniform[-1 if self.ended else len(self.tokens)]

    def append(self, token: int, closing: list[int]) -> None:
        """Add a sampled token, and the closing if it is the closing token or the last one."""
        self.tokens.append(token)
        closed = token == closing[0]
        self.ended = closed or len(self.tokens) == len(self.uniform) - 1
        self.pending = [*([] if closed else [token]), *(closing if self.ended else [])]


@dataclass
class _Context:
    """The cache of N rows; at first with system text, image and prompt of the I images."""

    cache: Any
    mask: torch.Tensor
    """[N, T] attention mask of the cached tokens (0 for padding)."""
    next_position: torch.Tensor
    """[N] position of the next token."""
    num_axes: int
    """Axes of a position; a generated token has the same position on all of them."""

    def select(self, index: torch.Tensor) -> None:
        """Continue with the rows at ``index``, in that order; a row may occur repeatedly."""
        self.cache.reorder_cache(index)
        self.mask, self.next_position = self.mask[index], self.next_position[index]

    def feed(self, backbone: Backbone, tokens_NT: torch.Tensor) -> Logits:
        """Logits [N, V] after some more tokens of each row."""
        self.mask = torch.cat([self.mask, torch.ones_like(tokens_NT, dtype=self.mask.dtype)], 1)
        where = torch.arange(tokens_NT.shape[1], device=tokens_NT.device)
        where = (self.next_position[:, None] + where).expand(self.num_axes, -1, -1)
        self.next_position = self.next_position + tokens_NT.shape[1]
        return backbone.network.decode(tokens_NT, self.mask, where, self.cache, backbone.label_ids)


def _prefill(
    backbone: Backbone, prompts: Sequence[str], images: Sequence[torch.Tensor]
) -> _Context:
    rows = [backbone.prefix(*pair) for pair in zip(prompts, images, strict=True)]
    ids, mask = backbone.collate(rows)
    values, grid = backbone.pixels.patches(images)
    cache, positions = backbone.network.prefill(
        ids, mask, values.to(backbone.device), grid.to(backbone.device)
    )
    return _Context(cache, mask, positions.amax((0, 2)) + 1, len(positions))


def _decode(backbone: Backbone, context: _Context, rows: list[_Row], temperature: float) -> None:
    """Feed the question to each row, sample its trace, feed the closing, decode its score.

    A call feeds as many tokens as are known of every row: the shortest question at first, then
    mostly one.
    """
    chat, device = backbone.chat, backbone.device
    batch = rows
    while live := [n for n, row in enumerate(batch) if row.score is None]:
        # Selecting rows copies the cache of those that are kept. Done when at least half have
        # finished, it copies as much as one whole cache in all (1/2 + 1/4 + ...), and of the rows
        # of a call fewer than half are finished ones, which are fed tokens that nothing reads.
        if 2 * len(live) <= len(batch):
            context.select(torch.tensor(live, device=device))
            batch = [batch[n] for n in live]
            live = list(range(len(batch)))
        length = min(len(batch[n].pending) for n in live)
        fed = [row.pending[:length] or [chat.close_id] * length for row in batch]
        logits = context.feed(backbone, torch.tensor(fed, device=device))
        for row in batch:
            del row.pending[:length]
        free = [n for n in live if not batch[n].pending]
        logits = logits.at(free)
        uniform = torch.tensor(
            [batch[n].next_uniform for n in free], dtype=torch.float32, device=device
        )
        tokens = logits.tokens.float()
        chosen = pick_tokens(tokens, chat.forbidden, uniform, temperature).tolist()
        for k, n in enumerate(free):
            if batch[n].ended:
                batch[n].score = *score_log_probs(logits.at(k), backbone.label_ids), chosen[k]
            else:
                batch[n].append(chosen[k], chat.closing)
