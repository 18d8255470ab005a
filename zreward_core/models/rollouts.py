"""Reasoning rollouts of the teacher: sampled traces, closed by force, and the score after them.

Shapes: I images with their prompts, Q queries (an image and a dimension), G traces of a query,
N = Q x G rows, S levels, T tokens, V vocabulary.
The traces of an image share one pass over system text, image and prompt; the backbone is
hybrid, so the cache is copied by ``reorder_cache`` and continued without padding.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score, score_log_probs


@dataclass
class Rollouts:
    """Traces of N = Q x G rows, those of a query side by side."""

    tokens: list[list[int]]
    """Sampled tokens of each row; the last is the closing token where the model closed."""
    closed: torch.Tensor
    """[N] whether the model itself ended the trace within the limit."""
    log_probs: torch.Tensor
    """[N, S] log of q(s | p, I, d, trace)."""
    mass: torch.Tensor
    """[N] probability on the score tokens together."""
    answers: torch.Tensor
    """[N] token sampled at the score position, whatever it is."""


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
    """Sample traces and read the score distribution after each.

    Args:
        prompts: I prompts.
        images: I resized images [3, h, w].
        queries: Q pairs (index of an image, index of a dimension).
        num_traces: G.
        max_tokens: limit of a trace; one that reaches it is closed by force.
        seeds: Q seeds; a query's traces depend on its seed, not on what else is in the batch.
        temperature: 0 takes the likeliest token.
        asked: Q token sequences that stand in the place of the dimensions' questions.
    """
    uniform_QGT = torch.stack([_uniforms(seed, num_traces, max_tokens) for seed in seeds])
    rows = [backbone.prefix(*pair) for pair in zip(prompts, images, strict=True)]
    ids, mask = backbone.collate(rows)
    values, grid = backbone.pixels.patches(images)
    shared = _Prefix(backbone, ids, mask, values.to(backbone.device), grid.to(backbone.device))
    tokens: list[list[int]] = [[] for _ in range(len(queries) * num_traces)]
    closed = torch.zeros(len(tokens), dtype=torch.bool)
    log_probs = torch.zeros(len(tokens), len(backbone.label_ids))
    mass = torch.zeros(len(tokens))
    answers = torch.zeros(len(tokens), dtype=torch.long)
    if asked is None:
        asked = [backbone.chat.questions[dimension] for _, dimension in queries]
    for length in sorted({len(question) for question in asked}):
        group = [q for q, question in enumerate(asked) if len(question) == length]
        image = torch.tensor([queries[q][0] for q in group]).repeat_interleave(num_traces)
        question = torch.tensor([asked[q] for q in group])
        found = _continue(
            backbone,
            shared,
            image.to(backbone.device),
            question.repeat_interleave(num_traces, 0).to(backbone.device),
            uniform_QGT[group].flatten(0, 1).to(backbone.device),
            temperature,
        )
        at = [q * num_traces + g for q in group for g in range(num_traces)]
        for row, index in enumerate(at):
            tokens[index] = found.tokens[row]
        closed[at], log_probs[at], mass[at] = found.closed, found.log_probs, found.mass
        answers[at] = found.answers
    return Rollouts(tokens, closed, log_probs, mass, answers)


def join_rollouts(parts: Sequence[Rollouts]) -> Rollouts:
    """Rollouts of neighbouring parts of a batch as those of the batch."""
    return Rollouts(
        tokens=[tokens for part in parts for tokens in part.tokens],
        closed=torch.cat([part.closed for part in parts]),
        log_probs=torch.cat([part.log_probs for part in parts]),
        mass=torch.cat([part.mass for part in parts]),
        answers=torch.cat([part.answers for part in parts]),
    )


def read_scores(backbone: Backbone, rollouts: Rollouts, from_text: bool) -> torch.Tensor:
    """Score of each row [N]: the mean of its distribution (equation 6), or what its text says.

    A text that does not say a level's label has no score: NaN, to be counted and left out.
    """
    levels = backbone.levels.cpu()
    if not from_text:
        return expected_score(rollouts.log_probs.exp(), levels)
    said_NS = rollouts.answers[:, None] == backbone.label_ids.cpu()
    return torch.where(said_NS.any(1), (said_NS * levels).sum(1), torch.nan)


def _uniforms(seed: int, num_traces: int, max_tokens: int) -> torch.Tensor:
    """[G, T + 1] numbers that decide the tokens of a query's traces, and the answer after each."""
    generator = torch.Generator().manual_seed(seed)
    traces = torch.rand(num_traces, max_tokens, generator=generator)
    return torch.cat([traces, torch.rand(num_traces, 1, generator=generator)], 1)


class _Prefix:
    """The cache after system text, image and prompt of I images."""

    def __init__(
        self,
        backbone: Backbone,
        ids: torch.Tensor,
        mask: torch.Tensor,
        values: torch.Tensor,
        grid: torch.Tensor,
    ) -> None:
        network = backbone.network
        positions = network.positions(ids, mask, grid)
        self.mask = mask
        self.next_position = positions.amax((0, 2)) + 1
        features = network.model.model.get_image_features(values, grid, return_dict=True)
        self.cache = network.model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            mm_encoder_outputs={"image": features},
            use_cache=True,
        ).past_key_values


def _continue(
    backbone: Backbone,
    shared: _Prefix,
    image_N: torch.Tensor,
    question_NT: torch.Tensor,
    uniform_NT: torch.Tensor,
    temperature: float,
) -> Rollouts:
    """Ask, sample until closed, feed the closing, read the score; one row a trace."""
    model, chat = backbone.network.model, backbone.chat
    cache = copy.deepcopy(shared.cache)
    cache.reorder_cache(image_N)
    mask = shared.mask[image_N]
    position = shared.next_position[image_N]
    num_rows, max_tokens = len(uniform_NT), uniform_NT.shape[1] - 1
    closing = torch.tensor(chat.closing, device=backbone.device)
    sampled = torch.zeros(num_rows, max_tokens, dtype=torch.long, device=backbone.device)
    num_sampled = torch.zeros(num_rows, dtype=torch.long, device=backbone.device)
    closed = torch.zeros(num_rows, dtype=torch.bool, device=backbone.device)
    stage = torch.zeros(num_rows, dtype=torch.long, device=backbone.device)  # closing tokens fed
    log_probs = torch.zeros(num_rows, len(backbone.label_ids), device=backbone.device)
    mass = torch.zeros(num_rows, device=backbone.device)
    answers = torch.zeros(num_rows, dtype=torch.long, device=backbone.device)
    done = torch.zeros(num_rows, dtype=torch.bool, device=backbone.device)
    feed = question_NT
    for step in range(max_tokens + len(closing) + 1):
        length = feed.shape[1]
        mask = torch.cat([mask, mask.new_ones(num_rows, length)], 1)
        where = position[:, None] + torch.arange(length, device=backbone.device)
        hidden = model.model(
            input_ids=feed,
            attention_mask=mask,
            position_ids=where.expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        position = position + length
        logits = model.lm_head(hidden).float()
        scored = (stage == len(closing)) & ~done
        if scored.any():
            log_probs[scored], mass[scored] = score_log_probs(logits[scored], backbone.label_ids)
            answers[scored] = pick_tokens(
                logits[scored], chat.forbidden, uniform_NT[scored, max_tokens], temperature
            )
            done |= scored
            if done.all():
                break
        thinking = stage == 0
        at_limit = thinking & (num_sampled == max_tokens)
        active = thinking & ~at_limit
        token = closing[stage.clamp(max=len(closing) - 1)]
        if active.any():
            choice = pick_tokens(
                logits, chat.forbidden, uniform_NT[:, min(step, max_tokens - 1)], temperature
            )
            token = torch.where(active, choice, token)
            sampled[active, num_sampled[active]] = token[active]
            num_sampled += active.long()
            closed |= active & (token == chat.close_id)
        stage = stage + ((stage > 0) | at_limit | (active & (token == chat.close_id))).long()
        feed = token[:, None]
    tokens = [
        row[:count] for row, count in zip(sampled.tolist(), num_sampled.tolist(), strict=True)
    ]
    return Rollouts(tokens, closed.cpu(), log_probs.cpu(), mass.cpu(), answers.cpu())


def pick_tokens(
    logits: torch.Tensor, forbidden: list[int], uniform: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Next tokens [N] from logits [N, V]: inverse of the cumulative distribution at uniform [N].

    Forbidden tokens (image, vision and chat tokens) have probability zero; temperature 0 takes
    the likeliest token.
    """
    never = torch.tensor(forbidden, dtype=torch.long, device=logits.device)
    logits = logits.index_fill(-1, never, -torch.inf)
    if temperature == 0.0:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
    return (
        (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)
    )


def closed_sequence(backbone: Backbone, trace: list[int]) -> list[int]:
    """A sampled trace followed by what is left of the closing."""
    closing = backbone.chat.closing
    return trace + (closing[1:] if trace and trace[-1] == backbone.chat.close_id else closing)
