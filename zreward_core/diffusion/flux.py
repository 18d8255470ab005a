"""`FluxPipeline` (FLUX.1-dev, FLUX.1-schnell, and checkpoints without distilled guidance)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zreward_core.diffusion.generator import TIME_STEPS, Conditions, ImageGenerator, pack, unpack


class Flux(ImageGenerator):
    """The meaning of the guidance scale depends on the checkpoint.

    A guidance-distilled transformer (``guidance_embeds``) takes the scale as an input; any other
    gets true classifier-free guidance above a scale of 1, from a second forward.
    """

    lora_targets = [
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    ]
    packed = True

    @property
    def distilled(self) -> bool:
        """Whether the guidance scale is an input of the transformer."""
        return bool(self.transformer.config.guidance_embeds)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], guidance_scale: float) -> Conditions:
        guided = guidance_scale > 1 and not self.distilled
        return Conditions(
            self._features(list(prompts)),
            self._features([""] * len(prompts)) if guided else None,
            guidance_scale,
        )

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        count, _, height, width = latents.shape
        inputs = {
            "hidden_states": pack(latents).to(transformer.dtype),
            "timestep": timestep.expand(count).to(transformer.dtype) / TIME_STEPS,
            "guidance": None,
            "img_ids": self.pipe._prepare_latent_image_ids(
                count, height // 2, width // 2, latents.device, transformer.dtype
            ),
        }
        if self.distilled:
            inputs["guidance"] = torch.full((count,), conditions.guidance_scale).to(latents.device)
        output = transformer(**inputs, **conditions.prompt, return_dict=False)[0]
        if conditions.empty is not None:
            without = transformer(**inputs, **conditions.empty, return_dict=False)[0]
            output = without + conditions.guidance_scale * (output - without)
        return unpack(output.float(), latents)

    def call_arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        if self.distilled:
            return {"guidance_scale": guidance_scale}
        return {"true_cfg_scale": guidance_scale, "negative_prompt": [""] * len(prompts)}

    def schedule(self, num_steps: int, shift: float) -> dict[str, Any]:
        if self.pipe.scheduler.config.get("use_flow_sigmas"):
            return {"num_inference_steps": num_steps, "mu": shift}
        return {"sigmas": np.linspace(1.0, 1 / num_steps, num_steps), "mu": shift}

    def _features(self, prompts: list[str]) -> dict[str, Tensor]:
        features, pooled, text_ids = self.pipe.encode_prompt(prompts)
        return {
            "encoder_hidden_states": features,
            "pooled_projections": pooled,
            "txt_ids": text_ids,
        }
