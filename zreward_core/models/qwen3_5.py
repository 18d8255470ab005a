"""The Qwen3.5 family, dense and mixture of experts.

Qwen3.5 is hybrid: three linear-attention layers to one with full attention, so a cache holds
recurrent states as well as keys and values. The other Qwen families import the shared
functions from this module.

Shapes: I images, P patches of all images, N sequences, L tokens, H hidden size.
"""

import logging
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch

from zreward_core.models.shared_prefix import Packing

logger = logging.getLogger(__name__)
TRACE_CLOSE = "</think>"
"""Token that ends the thinking block which the chat template opens."""
CHUNK = 16
"""Tokens in a chunk of linear attention on CPUs."""
VISION_TOWER = "model.visual"
"""Name of the vision tower with its patch merger inside the model."""


def encode_images(model: Any, pixel_values: torch.Tensor, grid: torch.Tensor) -> Any:
    """Features of I images from pixel values [P, ...] and patch grids [I, 3]."""
    return model.model.get_image_features(pixel_values, grid, return_dict=True)


def select_images(features: Any, index: Sequence[int]) -> Any:
    """The features of the images at ``index``, in that order; an image may occur repeatedly."""
    return SimpleNamespace(pooler_output=[features.pooler_output[i] for i in index])


def positions(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, grid: torch.Tensor
) -> torch.Tensor:
    """Multimodal rotary positions [3, N, L] (time, height, width); padding takes none.

    Args:
        grid: [N, 3] patch grid of the image in each sequence.
    """
    kinds = (input_ids == model.config.image_token_id).int()
    found, _ = model.model.get_rope_index(
        input_ids, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=attention_mask
    )
    return found


def hidden_states(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor,
    images: Any = None,
    cache: Any = None,
    use_cache: bool = False,
    packing: Packing | None = None,
) -> tuple[torch.Tensor, Any]:
    """Last hidden states [N, L, H] and the cache (None without ``use_cache``).

    Args:
        attention_mask: [N, cached tokens + L]; None with a packing.
        position_ids: [3, N, L].
        images: features of the image in each sequence; None where a cache holds them.
        cache: of the tokens before ``input_ids``.
        packing: of a batch in one sequence (N is 1), whose mixers must accept it.
    """
    output = model.model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        past_key_values=cache,
        mm_encoder_outputs=None if images is None else {"image": images},
        use_cache=use_cache,
        **_kernel_settings(model, input_ids),
        **({} if packing is None else {"packing": packing}),
    )
    return output.last_hidden_state, output.past_key_values


def lacks_kernels(model: Any, device_type: str) -> bool:
    """Whether linear attention falls back to the reference code of transformers on a GPU.

    Args:
        device_type: as in ``torch.device``.
    """
    return _is_linear(model) and device_type == "cuda" and not _has_kernels()


def _is_linear(model: Any) -> bool:
    return "linear_attention" in getattr(model.config.text_config, "layer_types", ())


@cache
def _has_kernels() -> bool:
    return find_spec("fla") is not None  # what transformers imports, of flash-linear-attention


@cache
def _warn_once() -> None:
    logger.warning(
        "flash-linear-attention is not installed: linear attention runs on the GPU with the slower"
        " reference code of transformers; pip install 'zreward[gpu]'"
    )


def _kernel_settings(model: Any, input_ids: torch.Tensor) -> dict[str, int]:
    """Smaller chunks for the reference kernel of linear attention, which is used on CPUs.

    It pads a sequence to whole chunks of 64 tokens by default, more than a tiny model's sequence.
    On a GPU without the kernels a warning is logged once.
    """
    if lacks_kernels(model, input_ids.device.type):
        _warn_once()
    if _is_linear(model) and input_ids.device.type == "cpu" and input_ids.shape[1] > 1:
        return {"chunk_size": CHUNK}
    return {}
