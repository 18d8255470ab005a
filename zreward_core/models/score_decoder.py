"""From logits at a score position to a distribution over rubric levels (equations 2 and 16).

Shapes: S levels, V vocabulary.
"""

from collections.abc import Sequence

import torch

from zreward_core.schemas import NotFinite


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
