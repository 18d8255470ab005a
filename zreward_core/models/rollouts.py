"""Reasoning rollouts: sampled traces, closing tokens, and the score distribution after them.

The traces of an image share one pass over system text, image and prompt. A cache may hold
recurrent states, so it is copied by ``reorder_cache`` and continued without padding.

Shapes: I images with their prompts, Q queries (an image and a dimension), G traces per query,
N = Q x G rows, S levels, T tokens, V vocabulary.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score, score_log_probs


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
    uniform_QGT = torch.stack([_uniforms(seed, num_traces, max_tokens) for seed in seeds])
    prefix = _prefill(backbone, prompts, images)
    num_rows = len(queries) * num_traces
    joined = Rollouts(
        tokens=[[] for _ in range(num_rows)],
        closed=torch.zeros(num_rows, dtype=torch.bool),
        log_probs=torch.zeros(num_rows, len(backbone.label_ids)),
        mass=torch.zeros(num_rows),
        answers=torch.zeros(num_rows, dtype=torch.long),
    )
    if asked is None:
        asked = [backbone.chat.questions[dimension] for _, dimension in queries]
    for length in sorted({len(question) for question in asked}):  # equal lengths need no padding
        group = [q for q, question in enumerate(asked) if len(question) == length]
        image = torch.tensor([queries[q][0] for q in group]).repeat_interleave(num_traces)
        question = torch.tensor([asked[q] for q in group])
        found = _continue(
            backbone,
            prefix,
            image.to(backbone.device),
            question.repeat_interleave(num_traces, 0).to(backbone.device),
            uniform_QGT[group].flatten(0, 1).to(backbone.device),
            temperature,
        )
        at = [q * num_traces + g for q in group for g in range(num_traces)]
        for row, index in enumerate(at):
            joined.tokens[index] = found.tokens[row]
        joined.closed[at], joined.answers[at] = found.closed, found.answers
        joined.log_probs[at], joined.mass[at] = found.log_probs, found.mass
    return joined


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
    traces = torch.rand(num_traces, max_tokens, generator=generator)
    return torch.cat([traces, torch.rand(num_traces, 1, generator=generator)], 1)


@dataclass
class _Prefix:
    """The cache after system text, image and prompt of I images."""

    cache: Any
    mask: torch.Tensor
    """[I, T] attention mask of the cached tokens (0 for padding)."""
    next_position: torch.Tensor
    """[I] position of the next token."""
    num_axes: int
    """Axes of a position; a generated token has the same position on all of them."""


def _prefill(backbone: Backbone, prompts: Sequence[str], images: Sequence[torch.Tensor]) -> _Prefix:
    rows = [backbone.prefix(*pair) for pair in zip(prompts, images, strict=True)]
    ids, mask = backbone.collate(rows)
    values, grid = backbone.pixels.patches(images)
    cache, positions = backbone.network.prefill(
        ids, mask, values.to(backbone.device), grid.to(backbone.device)
    )
    return _Prefix(cache, mask, positions.amax((0, 2)) + 1, len(positions))


def _continue(
    backbone: Backbone,
    prefix: _Prefix,
    image_N: torch.Tensor,
    question_NT: torch.Tensor,
    uniform_NT: torch.Tensor,
    temperature: float,
) -> Rollouts:
    """Append the question, sample a trace, append the closing, decode the score; N rows."""
    chat, device = backbone.chat, backbone.device
    cache = copy.deepcopy(prefix.cache)
    cache.reorder_cache(image_N)
    mask = prefix.mask[image_N]
    position = prefix.next_position[image_N]
    num_rows, max_tokens = len(uniform_NT), uniform_NT.shape[1] - 1
    closing = torch.tensor(chat.closing, device=device)
    sampled = torch.zeros(num_rows, max_tokens, dtype=torch.long, device=device)
    num_sampled = torch.zeros(num_rows, dtype=torch.long, device=device)
    closed = torch.zeros(num_rows, dtype=torch.bool, device=device)
    num_fed = torch.zeros(num_rows, dtype=torch.long, device=device)  # tokens of the closing
    log_probs = torch.zeros(num_rows, len(backbone.label_ids), device=device)
    mass = torch.zeros(num_rows, device=device)
    answers = torch.zeros(num_rows, dtype=torch.long, device=device)
    done = torch.zeros(num_rows, dtype=torch.bool, device=device)
    feed = question_NT
    for step in range(max_tokens + len(closing) + 1):
        length = feed.shape[1]
        mask = torch.cat([mask, mask.new_ones(num_rows, length)], 1)
        where = position[:, None] + torch.arange(length, device=device)
        where = where.expand(prefix.num_axes, -1, -1)
        logits = backbone.network.decode(feed, mask, where, cache).float()
        position = position + length
        scored = (num_fed == len(closing)) & ~done
        if scored.any():
            log_probs[scored], mass[scored] = score_log_probs(logits[scored], backbone.label_ids)
            answers[scored] = pick_tokens(
                logits[scored], chat.forbidden, uniform_NT[scored, max_tokens], temperature
            )
            done |= scored
            if done.all():
                break
        thinking = num_fed == 0
        at_limit = thinking & (num_sampled == max_tokens)
        active = thinking & ~at_limit
        token = closing[num_fed.clamp(max=len(closing) - 1)]
        if active.any():
            choice = pick_tokens(
                logits, chat.forbidden, uniform_NT[:, min(step, max_tokens - 1)], temperature
            )
            token = torch.where(active, choice, token)
            sampled[active, num_sampled[active]] = token[active]
            num_sampled += active.long()
            closed |= active & (token == chat.close_id)
        num_fed += ((num_fed > 0) | at_limit | (active & (token == chat.close_id))).long()
        feed = token[:, None]
    tokens = [
        row[:count] for row, count in zip(sampled.tolist(), num_sampled.tolist(), strict=True)
    ]
    return Rollouts(tokens, closed.cpu(), log_probs.cpu(), mass.cpu(), answers.cpu())
