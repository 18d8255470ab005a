"""Muon with AdamW, and the learning-rate schedule of pretraining."""

import torch
from torch import nn

WARMUP_STEPS = 50
HOLD_SHARE = 0.3
"""Share of the steps at the full learning rate, before its linear decay to zero."""
ADAMW_SHARE = 0.5
"""Learning rate of AdamW as a share of Muon's."""


def make_optimizers(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of transformer layers, AdamW for the rest, at the same rate.

    Muon (Jordan et al., 2024) converges in fewer steps, which matters for tiny budgets.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_layer = any(part in name for part in ("layers.", "refiner.", "blocks."))
        hidden = in_layer and parameter.ndim == 2 and "modulation" not in name
        (matrices if hidden else others).append(parameter)
    return [
        torch.optim.Muon(
            matrices,
            lr=learning_rate,
            weight_decay=0.0,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]


def set_rates(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    """Set Muon's learning rate, and that of AdamW to ``ADAMW_SHARE`` of it."""
    for optimizer in optimizers:
        factor = 1.0 if isinstance(optimizer, torch.optim.Muon) else ADAMW_SHARE
        for group in optimizer.param_groups:
            group["lr"] = factor * learning_rate


def trapezoid(step: int, num_steps: int) -> float:
    """Learning-rate factor of a step: linear warm-up, plateau, linear decay to zero."""
    rise = min(1.0, (step + 1) / WARMUP_STEPS)
    left = (num_steps - step) / num_steps
    return rise * min(1.0, left / (1 - HOLD_SHARE))
