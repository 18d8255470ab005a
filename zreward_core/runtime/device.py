"""Device and precision of this process."""

import torch

from zreward_core.runtime.distributed import processes


def pick_device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    return processes().device


def fast_precision() -> torch.autocast:
    """Autocast to bfloat16 on CPUs that multiply bfloat16 matrices; elsewhere it has no effect."""
    found = torch.cpu.get_capabilities()
    enabled = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)
