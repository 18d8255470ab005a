"""The smallest models that tests build, of the real classes."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from zreward_core.models.backbone import Backbone
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import (
    IMAGE,
    PAD,
    VIDEO,
    VISION_END,
    VISION_START,
    TinySizes,
    build_processor,
    build_tokenizer,
    prompt_words,
)
from zreward_core.rubric import Rubric

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

TURNS = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}OPENING{%- endif %}"
)
OPTIONAL_THINKING = (
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- else %}{{- '<think>\n' }}{%- endif %}"
)
OPENINGS = {
    "qwen2_5_vl": "",
    "qwen3_5": OPTIONAL_THINKING,
    "qwen3_5_moe": OPTIONAL_THINKING,
    "qwen3_vl": "{{- '<think>\n' }}",  # the Thinking editions
    "qwen3_vl_moe": "",  # the Instruct editions
}
"""How each family's real chat template opens an answer."""

_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_ATTENTION = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "rope_parameters": _ROPE | {"mrope_interleaved": True},
}
_HYBRID = _ATTENTION | {
    "head_dim": 16,
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "rope_parameters": _ROPE | {"mrope_interleaved": True, "partial_rotary_factor": 0.5},
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_TEXT: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {k: v for k, v in _ATTENTION.items() if k != "head_dim"}
    | {"rope_parameters": _ROPE},
    "qwen3_5": _HYBRID,
    "qwen3_5_moe": {k: v for k, v in _HYBRID.items() if k != "intermediate_size"}
    | _EXPERTS
    | {"shared_expert_intermediate_size": 16},
    "qwen3_vl": _ATTENTION,
    "qwen3_vl_moe": _ATTENTION | _EXPERTS,
}
_DEEPSTACK = {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
_VISION: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {"depth": 2, "fullatt_block_indexes": [1], "window_size": 16},
    "qwen3_5": {"depth": 1, "num_position_embeddings": 64},
    "qwen3_5_moe": {"depth": 1, "num_position_embeddings": 64},
    "qwen3_vl": _DEEPSTACK,
    "qwen3_vl_moe": _DEEPSTACK,
}


def build_family(
    model_type: str,
    texts: list[str],
    rubric: Rubric,
    prompt: PromptSettings,
    text_sizes: dict[str, Any] | None = None,
    vision_sizes: dict[str, Any] | None = None,
) -> Backbone:
    """A tiny model of any supported family; weights are scaled so that differences show.

    Args:
        text_sizes, vision_sizes: replace settings of the language model and the vision tower.
    """
    tokenizer = build_tokenizer([*texts, *prompt_words(rubric, prompt)])
    tokenizer.chat_template = TURNS.replace("OPENING", OPENINGS[model_type])
    ids: dict[str, Any] = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in {
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "vision_start_token_id": VISION_START,
            "vision_end_token_id": VISION_END,
        }.items()
    }
    pad = tokenizer.convert_tokens_to_ids(PAD)
    text = {"vocab_size": len(tokenizer), "pad_token_id": pad, "max_position_embeddings": 1024}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 4,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "out_hidden_size": 32,
    }
    config = AutoConfig.for_model(
        model_type,
        text_config=text | _TEXT[model_type] | (text_sizes or {}),
        vision_config=vision | _VISION[model_type] | (vision_sizes or {}),
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    return Backbone(model.eval(), tokenizer, PixelPath(build_processor(4)), rubric, prompt)
