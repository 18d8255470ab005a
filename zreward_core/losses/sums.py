"""Masked sums divided by a count that is passed in, for losses that are independent of batching.

The count is that of the whole batch, over all micro-batches and processes, so that the losses of
the micro-batches add up to that of the whole batch.
"""

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the values where mask (bool, same shape) is true; masked values may be infinite."""
    return values.masked_fill(~mask, 0.0).sum()


def divide(total: Tensor, count: float | Tensor) -> Tensor:
    """total / count; returns 0 if the count is 0 (the total of an empty mask is 0)."""
    if isinstance(count, Tensor):
        return total / torch.clamp(count, min=1)
    return total / max(count, 1)
