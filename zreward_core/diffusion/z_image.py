"""`ZImagePipeline` (Z-Image, Z-Image-Turbo)."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor

from zreward_core.diffusion.generator import TIME_STEPS, Conditions, ImageGenerator

MAX_PROMPT_TOKENS = 512
"""Prompts are truncated to this many tokens unless the tokenizer's own limit is lower."""


class ZImage(ImageGenerator):
    """Classifier-free guidance above a scale of 0: v + scale * (v - v of the empty prompt).

    In the other pipeline classes the scale is larger by one for the same guidance.
    """

    lora_targets = ["to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"]

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens of a prompt, the chat template's included."""
        return min(MAX_PROMPT_TOKENS, self.pipe.tokenizer.model_max_length)

    @property
    def max_patches(self) -> int:
        return min(self.transformer.config.axes_lens[1:])

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], guidance_scale: float) -> Conditions:
        guided = guidance_scale > 0
        captions, empty = self.pipe.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=guided,
            max_sequence_length=self.max_prompt_tokens,
        )
        return Conditions(
            {"captions": captions}, {"captions": empty} if guided else None, guidance_scale
        )

    def velocity(
        self, transformer: Any, latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> Tensor:
        captions = conditions.prompt["captions"]
        inputs = latents.to(transformer.dtype)
        if conditions.empty is not None:
            captions, inputs = captions + conditions.empty["captions"], inputs.repeat(2, 1, 1, 1)
        time = ((TIME_STEPS - timestep) / TIME_STEPS).expand(len(inputs))
        frames = list(inputs.unsqueeze(2).unbind(0))
        output = transformer(frames, time, captions, return_dict=False)[0]
        negated = torch.stack(output).squeeze(2).float()
        if conditions.empty is not None:
            with_prompt, without = negated.chunk(2)
            negated = with_prompt + conditions.guidance_scale * (with_prompt - without)
        return -negated

    def call_arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        return {"guidance_scale": guidance_scale, "max_sequence_length": self.max_prompt_tokens}

    def schedule(self, num_steps: int, shift: float) -> dict[str, Any]:
        return {"sigmas": get_default_z_image_sigmas(num_steps), "mu": shift}
