"""From hidden states to the few numbers that are wanted of the logits: score distributions
(equations 2 and 16) and log-probabilities of given tokens.

Shapes: N sequences, K positions, S levels, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zreward_core.schemas import NotFinite

CHUNK_LOGITS = 2**27
"""Logits in memory at a time; in float32, half a GiB."""
Reader = Callable[[torch.Tensor, range], tuple[torch.Tensor, ...]]
"""Logits [N, k, V] of some positions, indices of the positions -> tensors [N, any number, ...]."""


def read_logits(
    head: nn.Module, hidden: torch.Tensor, vocabulary: int, reader: Reader
) -> tuple[torch.Tensor, ...]:
    """What a reader takes from the logits of all positions, without holding all of them.

    The logits are computed for a part of the positions at a time, and once more in the backward
    pass. Where all fit into ``CHUNK_LOGITS`` there is one part, and nothing is computed twice.

    Args:
        head: linear layer from hidden states to logits.
        hidden: [N, K, H].
        vocabulary: V.
        reader: its outputs for parts are joined along dimension 1.
    """
    number = hidden.shape[1]
    size = max(1, CHUNK_LOGITS // (len(hidden) * vocabulary))
    if size >= number:
        return reader(head(hidden), range(number))
    found = []
    for start in range(0, number, size):
        part = range(start, min(start + size, number))

        def read(hidden: torch.Tensor, part: range = part) -> tuple[torch.Tensor, ...]:
            return reader(head(hidden), part)

        found.append(
            checkpoint(
                read,
                hidden[:, part.start : part.stop],
                use_reentrant=False,
                preserve_rng_state=False,
            )
        )
    return tuple(torch.cat(outputs, 1) for outputs in zip(*found, strict=True))


def token_log_probs(
    logits: torch.Tensor, tokens: torch.Tensor, forbidden: Sequence[int], temperature: float
) -> torch.Tensor:
    """Log-probability [...] of a token at each position, as they are sampled.

    Args:
        logits: [..., V].
        tokens: [...] token ids.
        forbidden: tokens that are never sampled.
        temperature: sampling temperature; 0 is treated as 1.
    """
    allowed = logits.float() / (temperature or 1.0)
    allowed = allowed.index_fill(-1, torch.tensor(forbidden, device=logits.device), -torch.inf)
    return allowed.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(allowed, -1)


def mass_loss(mass: torch.Tensor, num_items: float) -> torch.Tensor:
    """-log of the mass on the score tokens, averaged over items.

    Not in the paper. Equations 8, 11 and 15 depend on the score tokens alone, so they do not
    prevent probability mass from moving to other tokens. This term does, at a small weight.

    Args:
        mass: [...] from ``score_log_probs``.
        num_items: number of items in the whole batch.
    """
    return -mass.clamp(min=1e-6).log().sum() / num_items


def score_log_probs(
    logits: torch.Tensor, label_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of q(s | ...): softmax over the score tokens' logits alone.

    Args:
        logits: [..., V] at the score position.
        label_ids: [S] token id of each level's label.

    Returns:
        log-probabilities [..., S] over the levels, and the total mass [...] of the score tokens
        in the full softmax (if it is small, the score is unreliable).
    """
    logits = logits.float()
    chosen = logits[..., label_ids.to(logits.device)]
    mass = (torch.logsumexp(chosen, -1) - torch.logsumexp(logits, -1)).exp()
    return torch.log_softmax(chosen, -1), mass


def expected_score(probs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Equation 6: mu = sum over s of s q(s).

    Args:
        probs: [..., S] distribution over levels.
        levels: [S] score of each level.

    Returns:
        expected scores [...], in rubric units.
    """
    with torch.autocast(probs.device.type, enabled=False):  # bfloat16 has steps of 1/32 at 4
        return probs @ levels.to(probs)


def require_finite_scores(
    source: str, names: Sequence[str], probs: torch.Tensor, mass: torch.Tensor
) -> None:
    """Check score distributions before they are used as numbers.

    Args:
        source: the model, for the message.
        names: what each of the first dimension's entries is, for the message.
        probs: [N, ..., S] distributions over levels.
        mass: [N, ...] total probability of the score tokens; it depends on every logit.

    Raises:
        NotFinite: a probability or a mass is NaN or infinite.
    """
    finite = torch.isfinite(probs).all(-1) & torch.isfinite(mass)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise NotFinite(
            f"{source}: the score of {names[row]} is not finite (probabilities"
            f" {probs[row].flatten().tolist()[:3]}..., mass {mass[row].flatten().tolist()[0]}), as"
            " after training that diverged; train the model again with a lower learning rate"
        )
