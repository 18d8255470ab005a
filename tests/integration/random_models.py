"""Local checkpoints of the real classes with random weights, real vocabulary and small widths.

The tokenizer holds the words of the rubric only; with QWEN_TIKTOKEN (the file qwen.tiktoken, which
the wheel of the PyPI package dashscope has) models would see real token ids, which no stage needs.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, ZImageTransformer2DModel
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.diffusion.tiny_pipelines import sd3
from tests.tiny_models import OPTIONAL_THINKING, TURNS
from zreward_core.diffusion.tiny import TinySizes, build_pipeline
from zreward_core.diffusion.tiny import build_tokenizer as build_caption_tokenizer
from zreward_core.models.tiny import (
    IMAGE,
    VIDEO,
    VISION_END,
    VISION_START,
    build_tokenizer,
    prompt_words,
)

VOCABULARY = 248_320
VAE_CHANNELS = (8, 16, 16, 16)
"""Four levels, as real ones: a latent is an eighth of the image's side."""
IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def save_vlm(folder: Path, rubric: Any, prompt: Any, width: int) -> None:
    """A hybrid Qwen3.5 with the image processor of the real one."""
    levels = [text for one in rubric.dimensions for text in one.levels.values()]
    tokenizer = build_tokenizer([*prompt_words(rubric, prompt), *levels])
    tokenizer.chat_template = TURNS.replace("OPENING", OPTIONAL_THINKING)
    rope = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5}
    config = Qwen3_5Config(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "max_position_embeddings": 262_144,
            "rope_parameters": rope | {"mrope_section": [2, 1, 1], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": width,
        },
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in IDS.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        model = Qwen3_5ForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        size={"shortest_edge": 65_536, "longest_edge": 16_777_216},
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)


def save_generator(folder: Path, name: str, prompts: list[str]) -> None:
    """A Z-Image or Stable Diffusion 3 pipeline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe = z_image(prompts) if name == "z_image" else sd3_with_real_latents()
    pipe.to(torch.bfloat16).save_pretrained(folder)


def z_image(prompts: list[str]) -> Any:
    sizes = TinySizes(
        vae_channels=VAE_CHANNELS,
        width=32,
        num_layers=2,
        text_width=32,
        num_text_layers=2,
        num_text_heads=2,
    )
    pipe = build_pipeline(sizes, build_caption_tokenizer(prompts), 1)
    config = dict(pipe.transformer.config) | {"axes_lens": [1536, 512, 512]}  # as the real one
    transformer = ZImageTransformer2DModel.from_config(config)
    transformer.load_state_dict(pipe.transformer.state_dict())
    pipe.register_modules(transformer=transformer)
    for final in pipe.transformer.all_final_layer.values():  # the output would be 0 otherwise
        final.linear.reset_parameters()
    return pipe


def sd3_with_real_latents() -> Any:
    pipe = sd3()
    config = dict(pipe.transformer.config) | {"pos_embed_max_size": 96}
    vae = AutoencoderKL(
        block_out_channels=VAE_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
    transformer = SD3Transformer2DModel.from_config(config)
    return type(pipe)(**pipe.components | {"vae": vae, "transformer": transformer})
