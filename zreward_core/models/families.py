"""The model families: modules that implement ``Family``, listed in ``FAMILIES``."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from zreward_core.models import qwen2_5_vl, qwen3_5, qwen3_vl
from zreward_core.models.shared_prefix import Packing


class Family(Protocol):
    """Interface of a model family; for the arguments see ``qwen3_5``."""

    TRACE_CLOSE: str
    """Token that ends a trace unless ``PromptSettings.think_close`` names another."""
    VISION_TOWER: str
    """Name of the vision tower inside the model, which LoRA leaves out."""

    def encode_images(self, model: Any, pixel_values: torch.Tensor, grid: torch.Tensor) -> Any:
        """Features of I images, differentiable in the pixel values."""

    def select_images(self, features: Any, index: Sequence[int]) -> Any:
        """The features of the image in each of N sequences."""

    def positions(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        grid: torch.Tensor,
    ) -> torch.Tensor:
        """Position ids [axes, N, L]; a generated token has one position on all axes."""

    def hidden_states(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        images: Any = None,
        cache: Any = None,
        use_cache: bool = False,
        packing: Packing | None = None,
    ) -> tuple[torch.Tensor, Any]:
        """Last hidden states and the cache, which must support ``reorder_cache``."""


FAMILIES: dict[str, Family] = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
}
"""``model_type`` of a checkpoint's config to its family."""
