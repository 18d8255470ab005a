"""Low-rank adapters of frozen weights: trained, merged and saved in float32.

In bfloat16 an adapter's small updates are rounded away, in training (AdamW at 1e-4 ends five times
as far from a toy problem's optimum) as well as in merging: an update of 0.1 % of the weights loses
80 % of its norm. So a trained model is saved merged in float32, and its adapter beside it; where it
is used in a lower precision, the adapter stays apart from the base's own weights.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER = "adapter"
"""Folder of the adapter inside the folder of the merged model, in the library's own format."""
NAME = "default"


class _Float32Linear(nn.Linear):
    """A linear layer with weights in float32 that computes in the data type of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype))


def keep_float32(model: nn.Module) -> None:
    """Keep the weights of new adapters in float32 and compute in that of the activations.

    The optimizer's state is then in float32 too, and no activation is cast to it.
    """
    for layer in lora_layers(model):
        layer.cast_input_dtype_enabled = False
        for part in (layer.lora_A, layer.lora_B):
            for linear in part.values():
                assert type(linear) in (nn.Linear, _Float32Linear) and linear.bias is None
                linear.float()
                linear.__class__ = _Float32Linear


def adapter_weights(adapted: "PeftModel") -> dict[str, torch.Tensor]:
    """The adapter's part of the model's state."""
    return {name: value for name, value in adapted.state_dict().items() if ".lora_" in name}


def save_adapter(
    adapted: "PeftModel", folder: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    """Write an adapter as peft does, with names in a fixed order: equal adapters, equal bytes.

    Args:
        state: weights to write, from ``adapter_weights``; those of the model if None.
    """
    config: Any = adapted.peft_config[NAME]
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)
    adapted.save_pretrained(str(folder), state_dict=state)


def save_without(model: Any, folder: Path) -> None:
    """Write the weights of a transformers model without its adapters, which stay in place."""
    state = {
        name.replace(".base_layer.", "."): value
        for name, value in model.state_dict().items()
        if ".lora_" not in name
    }
    model.save_pretrained(folder, state_dict=state)


def merge(model: nn.Module) -> None:
    """Add the adapters to the weights they adapt, which become float32, on the CPU.

    A GPU need not hold the float32 weights. The adapters stay in place, unused; the library's own
    function removes them.
    """
    for layer in lora_layers(model):
        layer.to("cpu", torch.float32).merge()


def separate(model: nn.Module, dtype: torch.dtype) -> None:
    """Take adapters out of weights that contain them, and give those weights a lower precision.

    Weights that were of that precision before ``merge`` are then exactly as they were.

    Args:
        model: merged, in float32, with its adapters in place.
        dtype: of all weights but the adapters.
    """
    for layer in lora_layers(model):
        weight = layer.get_base_layer().weight
        # not in place: the float32 weights are pages of a file that all processes share
        weight.data = (weight.data - layer.get_delta_weight(NAME)).to(dtype)
    for name, parameter in model.named_parameters():  # buffers stay: rotary frequencies in float32
        if ".lora_" not in name:
            parameter.data = parameter.data.to(dtype)
    keep_float32(model)


def lora_layers(model: nn.Module) -> list[Any]:
    """The adapted layers of a model."""
    from peft.tuners.lora import LoraLayer  # slow to import, and not needed for scoring

    return [module for module in model.modules() if isinstance(module, LoraLayer)]
