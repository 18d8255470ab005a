"""Sums under a mask, divided by a count that is passed in: batches can be split at will.

The count is that of the whole batch, over all accumulation steps and processes; the parts' losses
then add up to the whole batch's loss.
"""

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the values where mask (bool, same shape) holds; what is masked may be infinite."""
    return values.masked_fill(~mask, 0.0).sum()


def divide(total: Tensor, count: float | Tensor) -> Tensor:
    """total / count, where a count of nothing (0) leaves a total of nothing (0)."""
    if isinstance(count, Tensor):
        return total / torch.clamp(count, min=1)
    return total / max(count, 1)
