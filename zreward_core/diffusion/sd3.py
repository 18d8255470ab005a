"""`StableDiffusion3Pipeline` (Stable Diffusion 3 and 3.5)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zreward_core.diffusion.generator import Conditions, ImageGenerator


class StableDiffusion3(ImageGenerator):
    """Classifier-free guidance above a scale of 1, both halves in one forward."""

    lora_targets = [
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    ]

    @property
    def max_patches(self) -> int:
        return int(self.transformer.config.pos_embed_max_size)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], guidance_scale: float) -> Conditions:
        guided = guidance_scale > 1
        features, empty, pooled, empty_pooled = self.pipe.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=guided
        )
        without = {"encoder_hidden_states": empty, "pooled_projections": empty_pooled}
        return Conditions(
            {"encoder_hidden_states": features, "pooled_projections": pooled},
            without if guided else None,
            guidance_scale,
        )

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        inputs, prompt = latents.to(transformer.dtype), conditions.prompt
        if conditions.empty is not None:
            inputs = inputs.repeat(2, 1, 1, 1)
            prompt = {
                name: torch.cat([empty, prompt[name]]) for name, empty in conditions.empty.items()
            }
        output = transformer(
            hidden_states=inputs,
            timestep=timestep.expand(len(inputs)),
            return_dict=False,
            **prompt,
        )[0]
        if conditions.empty is not None:
            without, with_prompt = output.chunk(2)
            output = without + conditions.guidance_scale * (with_prompt - without)
        return output.float()

    def call_arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        return {"guidance_scale": guidance_scale}

    def schedule(self, num_steps: int, shift: float) -> dict[str, Any]:
        dynamic = self.pipe.scheduler.config.get("use_dynamic_shifting")
        return {"num_inference_steps": num_steps} | ({"mu": shift} if dynamic else {})
