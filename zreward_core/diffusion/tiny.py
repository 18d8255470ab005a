"""A tiny `ZImagePipeline` with random weights, built from the real classes."""

import re
from typing import Any, Self

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from pydantic import model_validator
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from zreward_core.config import Count, CountOrZero, Positive, Settings

PAD, UNKNOWN, OPEN, CLOSE = "<|endoftext|>", "<|unknown|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{OPEN}{{{{ message['role'] + ' ' + message['content'] }}}}{CLOSE}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{OPEN}assistant{{% endif %}}"
)
CAPTION_MULTIPLE = 32
"""The transformer pads captions to a multiple of this many tokens."""
MIN_HEAD = 6
"""Width of a head that leaves rotary positions for each axis of the image."""
NORM_GROUPS = 8
"""Groups of the VAE's group normalization."""


class TinySizes(Settings):
    """Sizes of a tiny Z-Image."""

    vae_channels: tuple[Count, ...] = (16, 32)
    """Channels of the VAE's levels; each level after the first halves the resolution."""
    latent_channels: Count = 4
    """Channels of the latents."""
    width: Count = 128
    """Width of the transformer."""
    num_layers: Count = 4
    """Layers over image and caption together."""
    num_refiner_layers: CountOrZero = 1
    """Layers over only the image, and over only the caption."""
    num_heads: Count = 2
    """Attention heads of the transformer."""
    rope_theta: Positive = 30.0
    """Base of the rotary position frequencies of the transformer."""
    text_width: Count = 128
    """Width of the text encoder."""
    num_text_layers: Count = 3
    """Layers of the text encoder; the pipeline uses the output of the penultimate one."""
    num_text_heads: Count = 4
    """Attention heads of the text encoder."""
    shift: Positive = 2.0
    """Shift of the scheduler's noise levels towards noise (1 for none)."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % (2 * self.num_heads) or self.width < MIN_HEAD * self.num_heads:
            raise ValueError(
                f"width must be an even multiple of num_heads, at least {MIN_HEAD} times as large"
            )
        if self.text_width % (2 * self.num_text_heads):
            raise ValueError("text_width must be an even multiple of num_text_heads")
        if not self.vae_channels or any(c % NORM_GROUPS for c in self.vae_channels):
            raise ValueError(f"vae_channels must be multiples of {NORM_GROUPS}")
        return self


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Word-level tokenizer with a chat template; its vocabulary is all words of the texts."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    special = [PAD, UNKNOWN, OPEN, CLOSE]
    vocabulary = dict.fromkeys([*special, "user", "assistant", *words])
    tokens = {word: index for index, word in enumerate(vocabulary)}
    backend = Tokenizer(models.WordLevel(tokens, unk_token=UNKNOWN))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[OPEN, CLOSE],
        chat_template=CHAT_TEMPLATE,
        padding_side="right",
    )
    lengths = tokenizer([chat(tokenizer, text) for text in ["", *texts]])["input_ids"]
    longest = max(len(ids) for ids in lengths)
    tokenizer.model_max_length = -(-longest // CAPTION_MULTIPLE) * CAPTION_MULTIPLE
    return tokenizer


def chat(tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """A prompt in the chat template, formatted as `ZImagePipeline` does."""
    text: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return str(text)


def build_pipeline(sizes: TinySizes, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """Build a `ZImagePipeline` with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        levels = len(sizes.vae_channels)
        vae = AutoencoderKL(
            block_out_channels=sizes.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            latent_channels=sizes.latent_channels,
            norm_num_groups=NORM_GROUPS,
            mid_block_add_attention=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0,
            scaling_factor=1.0,
        )
        head = sizes.width // sizes.num_heads
        side = head * 3 // 8 // 2 * 2
        transformer = ZImageTransformer2DModel(
            in_channels=sizes.latent_channels,
            dim=sizes.width,
            n_layers=sizes.num_layers,
            n_refiner_layers=sizes.num_refiner_layers,
            n_heads=sizes.num_heads,
            n_kv_heads=sizes.num_heads,
            cap_feat_dim=sizes.text_width,
            rope_theta=sizes.rope_theta,
            axes_dims=[head - 2 * side, side, side],
            axes_lens=[1024, 64, 64],
        )
        _initialise(transformer)
        text_encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=sizes.text_width,
                intermediate_size=2 * sizes.text_width,
                num_hidden_layers=sizes.num_text_layers,
                num_attention_heads=sizes.num_text_heads,
                num_key_value_heads=sizes.num_text_heads,
                head_dim=sizes.text_width // sizes.num_text_heads,
                max_position_embeddings=512,
                rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=sizes.shift)
    return ZImagePipeline(scheduler, vae, text_encoder, tokenizer, transformer)


def _initialise(transformer: Any) -> None:
    """Open the residual gates and zero the output layer; a tiny model then learns much faster."""
    blocks = [*transformer.noise_refiner, *transformer.layers]
    for block in blocks:
        torch.nn.init.zeros_(block.adaLN_modulation[0].weight)
        scale_attention, gate_attention, scale_mlp, gate_mlp = block.adaLN_modulation[0].bias.chunk(
            4
        )
        for scale in (scale_attention, scale_mlp):
            torch.nn.init.zeros_(scale)
        for gate in (gate_attention, gate_mlp):
            torch.nn.init.constant_(gate, 0.5)
    for final in transformer.all_final_layer.values():
        torch.nn.init.zeros_(final.linear.weight)
        torch.nn.init.zeros_(final.linear.bias)
