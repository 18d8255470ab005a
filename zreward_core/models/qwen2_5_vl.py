"""The Qwen2.5-VL family: no thinking block; an answer ends with the end-of-turn token."""

from zreward_core.models.qwen3_5 import (
    VISION_TOWER,
    encode_images,
    hidden_states,
    positions,
    select_images,
)

__all__ = [
    "TRACE_CLOSE",
    "VISION_TOWER",
    "encode_images",
    "hidden_states",
    "positions",
    "select_images",
]

TRACE_CLOSE = "<|im_end|>"
"""The vocabulary has no ``</think>``; this token ends the reasoning of an untrained checkpoint."""
