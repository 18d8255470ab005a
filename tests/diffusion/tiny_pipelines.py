"""Tiny random pipelines of every supported class, with tokenizers of single characters."""

import string
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from zreward_core.diffusion.tiny import TinySizes, build_pipeline, build_tokenizer

PROMPTS = ["a red circle at the top left", "two blue stars on the right"]
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 64}


def z_image() -> Any:
    sizes = TinySizes(
        vae_channels=(8, 16),
        width=32,
        num_layers=2,
        text_width=32,
        num_text_layers=2,
        num_text_heads=2,
    )
    pipe = build_pipeline(
        sizes, build_tokenizer([f"{one}, and nothing else" for one in PROMPTS]), 1
    )
    for final in pipe.transformer.all_final_layer.values():  # the output would be 0 otherwise
        final.linear.reset_parameters()
    return pipe


def sd3() -> Any:
    return _sd3(FlowMatchEulerDiscreteScheduler(shift=3.0))


def sd3_with_dynamic_shift() -> Any:
    return _sd3(FlowMatchEulerDiscreteScheduler(**DYNAMIC))


def flux() -> Any:
    return _flux(guidance_embeds=True)


def flux_without_distillation() -> Any:
    return _flux(guidance_embeds=False)


def qwen_image() -> Any:
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 400,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "max_position_embeddings": 2048,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
                "fullatt_block_indexes": [0],
            },
        )
    )
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift_terminal=0.02, **DYNAMIC),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[6.0, 4.0, 5.0, 8.0],
        ),
        text_encoder=text_encoder,
        tokenizer=_qwen_tokenizer(),
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    build.__name__: build
    for build in (
        z_image,
        sd3,
        sd3_with_dynamic_shift,
        flux,
        flux_without_distillation,
        qwen_image,
    )
}


def tiny_pipeline(name: str) -> Any:
    """A pipeline for inference whose random weights depend only on its name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe = PIPELINES[name]()
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()
    return pipe


def _sd3(scheduler: Any) -> Any:
    text_encoder_3, tokenizer_3 = _t5()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=32,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=scheduler,
        vae=_vae(),
        text_encoder=CLIPTextModelWithProjection(_clip_config()),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def _flux(guidance_embeds: bool) -> Any:
    text_encoder_2, tokenizer_2 = _t5()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, **DYNAMIC),
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )


def _clip_config() -> CLIPTextConfig:
    size = len(_clip_tokenizer())
    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        eos_token_id=size - 1,
    )


def _clip_tokenizer() -> CLIPTokenizer:
    pieces = [*CHARACTERS, *(f"{one}</w>" for one in CHARACTERS)]
    special = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *special])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=48)


def _t5() -> tuple[T5EncoderModel, T5Tokenizer]:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *CHARACTERS]
    tokenizer = T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    return T5EncoderModel(config), tokenizer


def _qwen_tokenizer() -> Qwen2Tokenizer:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    characters = [*special, *CHARACTERS, *string.ascii_uppercase, "Ġ", "Ċ"]
    vocabulary = {piece: index for index, piece in enumerate(characters)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    return tokenizer
