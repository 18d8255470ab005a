"""The Qwen3-VL family, dense and mixture of experts.

DeepStack: features of intermediate layers of the vision tower are added to the hidden states of
the first language layers at the image's positions, so they must be selected per image too.

Instruct checkpoints have no thinking block and end an answer with ``<|im_end|>``: set
``base_vlm.prompt.think_close`` to it to sample short traces from one before it is trained.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from zreward_core.models.qwen3_5 import (
    TRACE_CLOSE,
    VISION_TOWER,
    encode_images,
    hidden_states,
    positions,
)

__all__ = [
    "TRACE_CLOSE",
    "VISION_TOWER",
    "encode_images",
    "hidden_states",
    "positions",
    "select_images",
]


def select_images(features: Any, index: Sequence[int]) -> Any:
    """The features of the images at ``index``, those of intermediate layers included."""
    return SimpleNamespace(
        pooler_output=[features.pooler_output[i] for i in index],
        deepstack_features=[[layer[i] for i in index] for layer in features.deepstack_features],
    )
