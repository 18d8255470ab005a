"""Models of real size with random weights, made on the device; for `benchmarks/gpu.py`.

With ``tiny`` the same classes have the smallest sizes that run, for a test on a CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
)

from zreward_core.diffusion import tiny as tiny_diffusion
from zreward_core.diffusion.z_image import ZImage
from zreward_core.models import tiny
from zreward_core.models.backbone import Backbone
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import Dimension, Rubric

VOCABULARY = 248_320
TEXT = "a photograph of a red fox at the left of an old stone bridge in the snow before sunrise"
PROMPT = f"{TEXT}, {TEXT}, {TEXT}"
SETTINGS = PromptSettings(
    system="You judge images made by a model against a rubric with the labels {labels}",
    question="{title} {question} Reason about this dimension step by step, then give one label",
    score="\n\nScore: ",
    line="{title}: ",
    mark="-\n",
    max_trace_tokens=512,
)
RUBRIC = Rubric(
    name="benchmark",
    levels=[1.0, 2.0, 3.0, 4.0, 5.0],
    labels=["1", "2", "3", "4", "5"],
    dimensions=[
        Dimension(name=name, title=name, question=f"how is the {name}", levels={})
        for name in ("alignment", "realism", "aesthetics", "plausibility")
    ],
)
SIZES = {
    "4B": {"hidden": 2560, "inner": 9216, "layers": 32, "heads": 16, "values": 32},
    "9B": {"hidden": 4096, "inner": 12288, "layers": 32, "heads": 16, "values": 32},
    "27B": {"hidden": 5120, "inner": 17408, "layers": 64, "heads": 24, "values": 48},
}
"""Widths and layers of Qwen3.5; the rest is the same in all sizes."""


@contextmanager
def made_on(device: torch.device) -> Iterator[None]:
    """New weights are in bfloat16 and on a device."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def backbone(size: str, device: torch.device, small: bool) -> Backbone:
    """A Qwen3.5 of a size with the vocabulary of the real one."""
    tokenizer = tiny.build_tokenizer([PROMPT, *tiny.prompt_words(RUBRIC, SETTINGS)])
    ids: dict[str, Any] = {
        "image_token_id": tokenizer.convert_tokens_to_ids(tiny.IMAGE),
        "video_token_id": tokenizer.convert_tokens_to_ids(tiny.VIDEO),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids(tiny.VISION_START),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids(tiny.VISION_END),
    }
    wide = SIZES[size]
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer) if small else VOCABULARY,
        "hidden_size": 32 if small else wide["hidden"],
        "intermediate_size": 32 if small else wide["inner"],
        "num_hidden_layers": 4 if small else wide["layers"],
        "num_attention_heads": 2 if small else wide["heads"],
        "num_key_value_heads": 1 if small else 4,
        "head_dim": 16 if small else 256,
        "linear_num_key_heads": 2 if small else 16,
        "linear_num_value_heads": 2 if small else wide["values"],
        "linear_key_head_dim": 16 if small else 128,
        "linear_value_head_dim": 16 if small else 128,
        "max_position_embeddings": 262_144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.5 if small else 0.25,
            "mrope_section": [2, 1, 1] if small else [11, 11, 10],
            "mrope_interleaved": True,
        },
    }
    vision = {"out_hidden_size": text["hidden_size"]}
    if small:
        vision |= {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    with made_on(device):
        model = Qwen3_5ForConditionalGeneration(config).requires_grad_(False).eval()
    pixels = PixelPath(tiny.build_processor(16), 4096 if small else 1024**2)
    return Backbone(model, tokenizer, pixels, RUBRIC, SETTINGS, f"a random {size}")


def generator(device: torch.device, small: bool) -> ZImage:
    """A Z-Image: transformer of 6 billion weights, text encoder of 4, and VAE."""
    tokenizer = tiny_diffusion.build_tokenizer([PROMPT])
    levels = (8, 16) if small else (128, 256, 512, 512)
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    real = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    real |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    wide = {"dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    wide |= {"cap_feat_dim": 32, "axes_dims": [16, 8, 8], "axes_lens": [1024, 64, 64]}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    with made_on(device):
        pipe: Any = ZImagePipeline(
            scheduler,
            AutoencoderKL(
                block_out_channels=levels,
                down_block_types=("DownEncoderBlock2D",) * len(levels),
                up_block_types=("UpDecoderBlock2D",) * len(levels),
                layers_per_block=2,
                latent_channels=16,
                norm_num_groups=8 if small else 32,
                use_quant_conv=False,
                use_post_quant_conv=False,
                shift_factor=0.1159,
                scaling_factor=0.3611,
            ),
            Qwen3Model(Qwen3Config(vocab_size=151_936, **(text if small else real))),
            tokenizer,
            ZImageTransformer2DModel(**(wide if small else {})),
        )
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return ZImage(pipe)


def images(count: int, small: bool) -> list[np.ndarray]:
    """Images [H, W, 3] of noise, of 1024 x 1024 pixels."""
    side = 64 if small else 1024
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]
