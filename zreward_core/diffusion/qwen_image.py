"""`QwenImagePipeline` (Qwen-Image)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zreward_core.diffusion.generator import (
    TIME_STEPS,
    Conditions,
    ImageGenerator,
    pack,
    to_pixels,
    unpack,
)

MAX_PROMPT_TOKENS = 512
"""Default of ``pipe()``."""
EMPTY_PROMPT = " "
"""Negative prompt that the authors of Qwen-Image use for guidance."""


class QwenImage(ImageGenerator):
    """True classifier-free guidance above a scale of 1, from a second forward.

    The guided velocity is rescaled to the norm of the unguided one, patch by patch.
    """

    lora_targets = [
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    ]
    packed = True

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], guidance_scale: float) -> Conditions:
        guided = guidance_scale > 1
        return Conditions(
            self._features(list(prompts)),
            self._features([EMPTY_PROMPT] * len(prompts)) if guided else None,
            guidance_scale,
        )

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        count, _, height, width = latents.shape
        inputs = {
            "hidden_states": pack(latents).to(transformer.dtype),
            "timestep": timestep.expand(count).to(transformer.dtype) / TIME_STEPS,
            "img_shapes": [[(1, height // 2, width // 2)]] * count,
        }
        output = transformer(**inputs, **conditions.prompt, return_dict=False)[0]
        if conditions.empty is not None:
            without = transformer(**inputs, **conditions.empty, return_dict=False)[0]
            guided = without + conditions.guidance_scale * (output - without)
            output = guided * (
                output.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)
            )
        return unpack(output.float(), latents)

    def call_arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        if guidance_scale <= 1:
            return {"true_cfg_scale": 1.0}
        return {
            "true_cfg_scale": guidance_scale,
            "negative_prompt": [EMPTY_PROMPT] * len(prompts),
        }

    def schedule(self, num_steps: int, shift: float) -> dict[str, Any]:
        return {"sigmas": np.linspace(1.0, 1 / num_steps, num_steps), "mu": shift}

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1]; the VAE is a video VAE, the image its first frame."""
        vae = self.pipe.vae
        frames = latents.to(vae.dtype).unsqueeze(2)
        mean, deviation = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(frames)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return to_pixels(vae.decode(frames * deviation + mean, return_dict=False)[0][:, :, 0])

    def _features(self, prompts: list[str]) -> dict[str, Tensor]:
        features, mask = self.pipe.encode_prompt(prompts, max_sequence_length=MAX_PROMPT_TOKENS)
        return {"encoder_hidden_states": features, "encoder_hidden_states_mask": mask}
