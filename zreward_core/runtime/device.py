"""Device of this process."""

import torch

from zreward_core.runtime.distributed import processes


def pick_device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    return processes().device
