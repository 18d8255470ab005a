"""A tiny Qwen3.5 of the real class with random weights.

It keeps the architecture of the real one: layers with linear and with full attention, by default
three to one, a vision tower with merged patches, multimodal rotary positions, a chat template with
a thinking block.
"""

import json
import re
from typing import Any

import torch
from pydantic import model_validator
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3_5Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from zreward_core.config import Count, Settings
from zreward_core.models.backbone import Backbone
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import Rubric

PAD = "<|endoftext|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
THINK, THINK_CLOSE = "<think>", "</think>"
ROLES = ["system", "user", "assistant"]
SPECIAL = [PAD, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO]

MIN_PIXELS, MAX_PIXELS = 1024, 1280

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role }}"
    "{%- if message.content is string %}{{- ' ' + message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{- part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant<think>' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '</think>' }}"
    "{%- endif %}{%- endif %}"
)
"""Qwen3.5's template without line breaks, which would be a tenth of a tiny sequence's tokens."""


class TinySizes(Settings):
    """Sizes of a tiny Qwen3.5."""

    hidden_size: Count
    """Width of the language model."""
    num_layers: Count = 4
    """Layers of the language model."""
    full_attention_interval: Count = 4
    """Every layer of this number has full attention, as every fourth of Qwen3.5; the others have
    linear attention."""
    num_heads: Count = 4
    """Attention heads."""
    intermediate_size: Count
    """Width of the feed-forward layers."""
    vision_hidden_size: Count
    """Width of the vision tower."""
    vision_depth: Count = 2
    """Layers of the vision tower."""
    vision_heads: Count = 4
    """Attention heads of the vision tower."""
    vision_intermediate_size: Count
    """Width of the vision tower's feed-forward layers."""
    patch_size: Count = 4
    """Side of a patch in pixels; 2 x 2 patches are merged into one token."""

    @model_validator(mode="after")
    def _divisible(self) -> "TinySizes":
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError("hidden_size must be a multiple of 4 x num_heads")
        if self.vision_hidden_size % (4 * self.vision_heads):
            raise ValueError("vision_hidden_size must be a multiple of 4 x vision_heads")
        return self


def build_tokenizer(texts: list[str]) -> Qwen3_5Tokenizer:
    """Qwen3.5's byte-level tokenizer with a vocabulary in which every word of texts is a token.

    Any other word is encoded as pieces or bytes, so no word is unknown.
    """
    empty = Qwen3_5Tokenizer(vocab={}, merges=[])
    blank = Tokenizer(models.BPE())
    blank.normalizer = empty.backend_tokenizer.normalizer
    blank.pre_tokenizer = empty.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        special_tokens=[*SPECIAL, THINK, THINK_CLOSE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)})
    spaced = [variant for word in words for variant in (word, f" {word}")]
    blank.train_from_iterator(spaced, trainer)
    learned: dict[str, Any] = json.loads(blank.to_str())["model"]
    return Qwen3_5Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[misc]
        pad_token=PAD,
        unk_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=[*SPECIAL[1:], THINK, THINK_CLOSE],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def build_processor(patch_size: int) -> Qwen2VLImageProcessorPil:
    """Image processor of tiny models."""
    return Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def prompt_words(rubric: Rubric, prompt: PromptSettings) -> list[str]:
    """Texts of the chat format, whose words a tiny tokenizer has to contain."""
    names = [text for d in rubric.dimensions for text in (d.name, d.title, d.question)]
    texts = [prompt.system, prompt.question, prompt.score, prompt.line, prompt.mark, *names]
    return [*rubric.labels, *ROLES, *texts]


def build_backbone(
    sizes: TinySizes,
    texts: list[str],
    rubric: Rubric,
    prompt: PromptSettings,
    seed: int,
    max_pixels: int | None = None,
) -> Backbone:
    """A tiny Qwen3.5 with random weights.

    Args:
        texts: every word in them becomes a token.
        seed: of the weights.
        max_pixels: larger images are resized to this; ``MAX_PIXELS`` if None.
    """
    tokenizer = build_tokenizer([*texts, *prompt_words(rubric, prompt)])
    head_dim = sizes.hidden_size // sizes.num_heads
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    rotary = head_dim // 2
    section = [rotary // 2 - 2 * (rotary // 6), rotary // 6, rotary // 6]
    config = Qwen3_5Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.hidden_size,
            "intermediate_size": sizes.intermediate_size,
            "num_hidden_layers": sizes.num_layers,
            "full_attention_interval": sizes.full_attention_interval,
            "num_attention_heads": sizes.num_heads,
            "num_key_value_heads": sizes.num_heads,
            "head_dim": head_dim,
            "linear_num_key_heads": sizes.num_heads,
            "linear_num_value_heads": sizes.num_heads,
            "linear_key_head_dim": head_dim,
            "linear_value_head_dim": head_dim,
            "max_position_embeddings": 1024,
            "pad_token_id": ids[PAD],
            "eos_token_id": ids[TURN_END],
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": section,
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": sizes.vision_depth,
            "hidden_size": sizes.vision_hidden_size,
            "intermediate_size": sizes.vision_intermediate_size,
            "num_heads": sizes.vision_heads,
            "patch_size": sizes.patch_size,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": sizes.hidden_size,
            "num_position_embeddings": 64,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3_5ForConditionalGeneration(config)
    pixels = PixelPath(build_processor(sizes.patch_size), max_pixels)
    return Backbone(model, tokenizer, pixels, rubric, prompt)
