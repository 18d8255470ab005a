"""A generator of real size without weights, for counting memory on fake tensors.

The configs are those of the checkpoint where it is on this machine (a folder, or the hub's cache);
for some hub models their figures are in ``figures``. Text encoders are weighed but not run:
``encode`` returns conditions of the shapes that they produce.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from transformers import PreTrainedModel

from zreward_core.commands.plan.fake_run import FakeRun
from zreward_core.config import UserError
from zreward_core.diffusion.generator import Conditions, ImageGenerator
from zreward_core.diffusion.loading import GENERATORS, components

FIGURES = Path(__file__).parent / "figures"
PROMPT_TOKENS = 100
"""Tokens of a prompt where the pipeline does not pad it."""
SD3_TOKENS = 77 + 256
"""Tokens of CLIP and of T5."""
FLUX_TOKENS = 512
"""Tokens of T5."""
TRANSFORMERS: dict[str, Any] = {
    "ZImagePipeline": ZImageTransformer2DModel,
    "StableDiffusion3Pipeline": SD3Transformer2DModel,
    "FluxPipeline": FluxTransformer2DModel,
}
"""The pipeline classes that can be counted."""
TEXT_ENCODERS = {"ZImagePipeline": 1, "StableDiffusion3Pipeline": 3, "FluxPipeline": 2}
"""Their text encoders, each with a tokenizer."""


@dataclass(frozen=True, eq=False)
class GeneratorBlueprint:
    """What is needed to build a generator without its weights."""

    pipeline: str
    """Class of the pipeline."""
    transformer: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]
    text_encoder_parameters: float
    """Weights of all text encoders."""

    def build(self, dtype: str) -> ImageGenerator:
        """The generator on the meta device, all weights frozen."""
        kind = getattr(torch, dtype)
        with torch.device("meta"):
            transformer = TRANSFORMERS[self.pipeline].from_config(self.transformer).to(kind)
            vae: Any = AutoencoderKL.from_config(self.vae).to(kind)
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler)
        pipe = SimpleNamespace(
            transformer=transformer.requires_grad_(False).eval(),
            vae=vae.requires_grad_(False).eval(),
            scheduler=scheduler,
            device=torch.device("cpu"),
            components={},  # text encoders are weighed only
            _prepare_latent_image_ids=FluxPipeline._prepare_latent_image_ids,
            vae_scale_factor=2 ** (len(vae.config.block_out_channels) - 1),
        )
        generator: Any = GENERATORS[self.pipeline](pipe)
        generator.encode = lambda prompts, scale: conditions(generator, prompts, scale)
        return generator


def read_generator(source: str, revision: str | None) -> GeneratorBlueprint:
    """The blueprint of a checkpoint; nothing is downloaded.

    Raises:
        UserError: neither a folder, nor in the hub's cache, nor one whose figures are known; or a
            pipeline class that cannot be counted.
    """
    known = FIGURES / f"{source.replace('/', '--')}.json"
    try:
        index = DiffusionPipeline.load_config(source, revision=revision, local_files_only=True)
        found = _read_configs(index, source, revision)
    except (OSError, ValueError):
        if not known.is_file():
            raise UserError(
                f"the configs of {source} are not on this machine: `hf download {source} --include"
                " '*.json'` and run it again, or give the path of a local checkpoint"
            ) from None
        found = json.loads(known.read_text())
    if found["pipeline"] not in TRANSFORMERS:
        raise UserError(f"{source}: only {', '.join(TRANSFORMERS)} can be counted")
    return GeneratorBlueprint(**found)


def _read_configs(index: dict[str, Any], source: str, revision: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"pipeline": index["_class_name"], "text_encoder_parameters": 0}
    for name, kind in components(index).items():
        where: dict[str, Any] = {
            "subfolder": name,
            "revision": revision,
            "local_files_only": True,
        }
        if name in ("transformer", "vae", "scheduler"):
            found[name] = kind.load_config(source, **where)
        elif issubclass(kind, PreTrainedModel):
            config = kind.config_class.from_pretrained(source, **where)
            with torch.device("meta"):
                found["text_encoder_parameters"] += kind(config).num_parameters()
    return found


def prepare(generator: ImageGenerator, run: FakeRun) -> int:
    """Give transformer and VAE fake weights, within a fake run; returns their bytes."""
    return run.weigh(generator.transformer) + run.weigh(generator.pipe.vae)


def conditions(
    generator: ImageGenerator, prompts: Sequence[str], guidance_scale: float
) -> Conditions:
    """Conditions of the shapes that the pipeline's text encoders produce."""
    config, dtype = generator.transformer.config, generator.transformer.dtype
    if type(generator).__name__ == "ZImage":

        def some() -> dict[str, Any]:
            size = PROMPT_TOKENS, config.cap_feat_dim
            return {"captions": [torch.zeros(size, dtype=dtype) for _ in prompts]}

        guided = guidance_scale > 0
    else:
        flux = type(generator).__name__ == "Flux"
        length = FLUX_TOKENS if flux else SD3_TOKENS

        def some() -> dict[str, Any]:
            size = len(prompts), length, config.joint_attention_dim
            pooled = torch.zeros(len(prompts), config.pooled_projection_dim, dtype=dtype)
            hidden = torch.zeros(size, dtype=dtype)
            places = {"txt_ids": torch.zeros(length, 3, dtype=dtype)} if flux else {}
            return {"encoder_hidden_states": hidden, "pooled_projections": pooled, **places}

        guided = guidance_scale > 1 and not (flux and config.guidance_embeds)
    return Conditions(some(), some() if guided else None, guidance_scale)
