"""The training forward pass over traces: token log-probabilities and the score after each trace.

Shapes: B sides (an image, its prompt and a dimension), G traces of a side, N = B x G rows,
T tokens, S levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import closed_sequence
from zreward_core.models.score_decoder import score_log_probs


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
    chat, group = backbone.chat, len(traces) // len(prompts)
    tails = [closed_sequence(backbone, trace) for trace in traces]
    num_last = max(len(tail) for tail in tails) + 1
    prefixes = [
        backbone.prefix(prompt, image) + chat.questions[dimension]
        for prompt, image, dimension in zip(prompts, images, dimensions, strict=True)
    ]
    rows = [prefixes[n // group] + tail for n, tail in enumerate(tails)]
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
    if answers is not None:
        at = torch.cat([at, torch.full((len(rows), 1), num_last - 1)], 1)
        token = torch.cat([token, answers.cpu()[:, None]], 1)
        mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=torch.bool)], 1)
    at, token, mask = (value.to(logits.device) for value in (at, token, mask))
    allowed = logits.float() / (temperature or 1.0)
    allowed = allowed.index_fill(-1, torch.tensor(chat.forbidden, device=logits.device), -torch.inf)
    normaliser = torch.logsumexp(allowed, -1)
    picked = torch.arange(len(rows), device=logits.device)[:, None]
    log_probs = allowed[picked, at, token] - normaliser[picked, at]
    scores, mass = score_log_probs(logits[:, -1], backbone.label_ids)
    return TraceLogProbs(log_probs, mask, scores, mass)
