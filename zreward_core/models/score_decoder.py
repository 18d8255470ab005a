"""Score distributions (equations 2 and 16), expected scores (6) and token log-probabilities.

Logits are read a part of the positions at a time: those of all are never in memory together.

Shapes: N sequences, K positions, S levels, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zreward_core.schemas import NotFinite

CHUNK_LOGITS = 2**27
"""Logits in memory at a time; in float32, half a GiB."""
HALF = (torch.bfloat16, torch.float16)


class Logits(NamedTuple):
    """Logits [..., V] of all tokens, and those [..., S] of the score tokens without rounding."""

    tokens: torch.Tensor
    scores: torch.Tensor | None
    """In float32; None where ``tokens`` has not been rounded."""

    def at(self, index: Any) -> "Logits":
        """Those of some positions."""
        return Logits(self.tokens[index], None if self.scores is None else self.scores[index])


Reader = Callable[[Logits, range], tuple[torch.Tensor, ...]]
"""Logits [N, k, V] of some positions, indices of the positions -> tensors [N, any number, ...]."""


def token_logits(head: nn.Module, hidden: torch.Tensor, label_ids: torch.Tensor) -> Logits:
    """Logits after hidden states [..., H].

    A linear layer in half precision, or under autocast, rounds its outputs: logits of 16 in
    bfloat16 to multiples of 1/8, by which a probability can change by 6 %. Those of the score
    tokens are computed in float32 as well, from the same hidden states and weights.

    Args:
        head: linear layer from hidden states to logits.
        label_ids: [S] token id of each level's label.
    """
    logits = head(hidden)
    if logits.dtype not in HALF or type(head) is not nn.Linear:  # a peft layer has other weights
        return Logits(logits, None)
    ids = label_ids.to(logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        bias = None if head.bias is None else head.bias[ids].float()
        scores = nn.functional.linear(hidden.float(), head.weight[ids].float(), bias)
    return Logits(logits, scores)


def read_logits(
    head: nn.Module,
    hidden: torch.Tensor,
    vocabulary: int,
    label_ids: torch.Tensor,
    reader: Reader,
) -> tuple[torch.Tensor, ...]:
    """Outputs of a reader of the logits of all positions, without holding all of them.

    The logits are computed for a part of the positions at a time, and once more in the backward
    pass. Where all fit into ``CHUNK_LOGITS`` there is one part, and nothing is computed twice.

    Args:
        head: linear layer from hidden states to logits.
        hidden: [N, K, H].
        vocabulary: V.
        label_ids: [S] token id of each level's label.
        reader: its outputs for parts are joined along dimension 1.
    """
    number = hidden.shape[1]
    size = max(1, CHUNK_LOGITS // (len(hidden) * vocabulary))
    if size >= number:
        return reader(token_logits(head, hidden, label_ids), range(number))
    found = []
    for start in range(0, number, size):
        part = range(start, min(start + size, number))

        def read(hidden: torch.Tensor, part: range = part) -> tuple[torch.Tensor, ...]:
            return reader(token_logits(head, hidden, label_ids), part)

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


def score_log_probs(
    logits: torch.Tensor | Logits, label_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of q(s | ...), equations 2 and 16: softmax over the score tokens' logits, in float32.

    Args:
        logits: [..., V] at the score position.
        label_ids: [S] token id of each level's label.

    Returns:
        log-probabilities [..., S] over the levels, and the total mass [...] of the score tokens
        in the full softmax (if it is small, the score is unreliable).
    """
    given = logits if isinstance(logits, Logits) else Logits(logits, None)
    logits = given.tokens.float()
    ids = label_ids.to(logits.device)
    if given.scores is None:
        chosen = logits[..., ids]
    else:
        chosen = given.scores
        logits = logits.index_copy(-1, ids, chosen)  # mass is at most 1
    mass = (torch.logsumexp(chosen, -1) - torch.logsumexp(logits, -1)).exp()
    return torch.log_softmax(chosen, -1), mass


def expected_score(probs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Equation 6: mu = sum over s of s q(s), in the dtype of q.

    Autocast would compute the product in bfloat16, whose numbers above 4 are 0.03 apart.

    Args:
        probs: [..., S] distribution over levels.
        levels: [S] score of each level.

    Returns:
        expected scores [...], in rubric units.
    """
    with torch.autocast(probs.device.type, enabled=False):
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
