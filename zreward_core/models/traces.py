"""The training forward pass over traces: token log-probabilities and the score after each trace.

Shapes: B sides (an image, its prompt and a dimension), G traces of a side, N = B x G rows,
T tokens, S levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import closed_sequence, pick_tokens
from zreward_core.models.score_decoder import Logits, score_log_probs, token_log_probs


class TraceLogProbs(NamedTuple):
    """Log-probabilities and scores of N traces."""

    log_probs_NT: torch.Tensor
    """Log-probability of each token; with answers, one more column for them at the end."""
    mask_NT: torch.Tensor
    """Whether an entry is a token rather than padding."""
    scores_NS: torch.Tensor
    """Log of q(s | p, I, d, trace)."""
    mass_N: torch.Tensor
    """Total probability of the score tokens."""


def trace_log_probs(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    dimensions: Sequence[int],
    traces: Sequence[list[int]],
    temperature: float = 1.0,
    answers: torch.Tensor | None = None,
) -> TraceLogProbs:
    """One differentiable forward pass over closed traces.

    Args:
        prompts: B prompts.
        images: B resized images [3, h, w].
        dimensions: B indices of dimensions.
        traces: N token sequences, the G of each side adjacent.
        temperature: sampling temperature of the traces; 0 is treated as 1.
        answers: [N] tokens at the score position, to add their log-probabilities.
    """
    asked = [backbone.chat.questions[dimension] for dimension in dimensions]
    return _read(backbone, prompts, images, asked, traces, temperature, answers=answers)[0]


def read_sampled(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    asked: Sequence[list[int]],
    traces: Sequence[list[int]],
    temperature: float,
    uniform_N: torch.Tensor,
) -> tuple[TraceLogProbs, torch.Tensor]:
    """``trace_log_probs``, and a token [N] sampled at each score position, from all tokens.

    Args:
        asked: B token sequences, the questions.
        uniform_N: numbers that select the tokens, see ``pick_tokens``.
    """
    found, sampled = _read(backbone, prompts, images, asked, traces, temperature, uniform_N)
    assert sampled is not None
    return found, sampled


def _read(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    asked: Sequence[list[int]],
    traces: Sequence[list[int]],
    temperature: float,
    uniform_N: torch.Tensor | None = None,
    answers: torch.Tensor | None = None,
) -> tuple[TraceLogProbs, torch.Tensor | None]:
    chat, group = backbone.chat, len(traces) // len(prompts)
    tails = [closed_sequence(backbone, trace) for trace in traces]
    num_last = max(len(tail) for tail in tails) + 1
    prefixes = [
        backbone.prefix(prompt, image) + question
        for prompt, image, question in zip(prompts, images, asked, strict=True)
    ]
    rows = [prefixes[n // group] + tail for n, tail in enumerate(tails)]
    longest = max(len(trace) for trace in traces)
    wanted = torch.zeros(len(rows), num_last, dtype=torch.long)  # token after each position
    at = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for n, (trace, tail) in enumerate(zip(traces, tails, strict=True)):
        first = num_last - 1 - len(tail)
        wanted[n, first : first + len(trace)] = torch.tensor(trace)
        at[n, : len(trace)] = torch.arange(first, first + len(trace))
        mask[n, : len(trace)] = True
    if answers is not None:
        wanted[:, -1] = answers.cpu()
        at = torch.cat([at, torch.full((len(rows), 1), num_last - 1)], 1)
        mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=torch.bool)], 1)
    wanted, at, mask = (value.to(backbone.device) for value in (wanted, at, mask))

    def read(logits: Logits, part: range) -> tuple[torch.Tensor, ...]:
        tokens = wanted[:, part.start : part.stop]
        # empty unless the part is the last one
        at_score = logits.at((slice(None), slice(num_last - 1 - part.start, None)))
        last = at_score.tokens
        sampled = []
        if uniform_N is not None:
            flat = last.flatten(0, 1).float()
            uniform = uniform_N.to(last.device)[: len(flat)]
            sampled = [pick_tokens(flat, chat.forbidden, uniform, temperature)]
        return (
            token_log_probs(logits.tokens, tokens, chat.forbidden, temperature),
            *score_log_probs(at_score, backbone.label_ids),
            *(token.view(last.shape[:2]) for token in sampled),
        )

    owners = [n // group for n in range(len(rows))]
    log_probs_NK, scores, mass, *sampled = backbone.read(
        rows, images, owners, num_last, read, prefixes=prefixes
    )
    found = TraceLogProbs(log_probs_NK.gather(1, at), mask, scores[:, 0], mass[:, 0])
    return found, sampled[0][:, 0] if sampled else None
