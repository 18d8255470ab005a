"""The smallest models that tests build, of the real classes."""

from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import TinySizes

PROMPT = PromptSettings(
    system="rate {labels}",
    question="{name}",
    score="score ",
    line="{name} ",
    mark="? ",
    max_trace_tokens=4,
)
SIZES = TinySizes(
    hidden_size=32,
    num_heads=2,
    intermediate_size=32,
    vision_hidden_size=32,
    vision_heads=2,
    vision_depth=1,
    vision_intermediate_size=32,
)
