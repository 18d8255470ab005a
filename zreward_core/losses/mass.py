"""Probability mass on the score tokens; not in Z-Reward (arXiv:2606.09076)."""

import torch
from torch import Tensor

from zreward_core.losses.sums import divide


def mass_loss(mass: Tensor, num_items: float | Tensor) -> Tensor:
    """-log of the mass on the score tokens, averaged over items.

    Equations 8, 11 and 15 depend on the score tokens alone, so they do not prevent probability mass
    from moving to other tokens. This term does, at a small weight.

    Args:
        mass: [...] total probability of the score tokens in the full softmax; gradients pass, down
            to the smallest float.
        num_items: items in the whole batch.
    """
    return divide(-mass.clamp(min=torch.finfo(mass.dtype).tiny).log().sum(), num_items)
