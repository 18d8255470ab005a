"""base_generator: world images (or a checkpoint) -> the base generator.

The tiny model is pretrained on data of uneven quality, as web data is: a share of the images is
blurred, noisy, broken or does not match its prompt. Reward tuning thus has defects to remove.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import Field, field_validator
from torch import Tensor

from zreward_core.config import (
    Count,
    CountOrZero,
    Rate,
    Settings,
    Share,
    Side,
    StageConfig,
    UserError,
    Weight,
)
from zreward_core.diffusion.flow import (
    draw_sigmas,
    encode_captions,
    flow_matching_loss,
    reconstruction_loss,
    step_generator,
)
from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.loading import check_components, load_generator, locate, write_pointer
from zreward_core.diffusion.sampling import sample
from zreward_core.diffusion.tiny import TinySizes, build_pipeline, build_tokenizer, chat
from zreward_core.images import ImageStore
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import add_up, own_part
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import publish, track, write_history
from zreward_core.runtime.sharding import restore
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import read_table, require_finite, write_json
from zreward_core.sheets import captioned
from zreward_core.stages._bases import BaseSource
from zreward_core.training.optimizers import make_optimizers, trapezoid
from zreward_core.training.updates import DIVERGED, apply_gradients
from zreward_core.world.inspection import INSPECTIONS
from zreward_core.world.measures import oracle_figures
from zreward_core.world.rendering import render
from zreward_core.world.scenes import ASPECTS, sample_scene

logger = logging.getLogger(__name__)
WORLD = Path("data/world")
OUTPUT = Path("data/base_generator")
MAX_NORM = 1.0
"""Gradients are clipped to this norm."""
LOG_EVERY = 20
"""Steps between rows of the history."""
MIN_DEVIATION = 1e-6
"""Standard deviation of latents below which they differ by rounding errors only."""


class VaePretraining(Settings):
    """Training of the autoencoder."""

    steps: CountOrZero = 1600
    """Optimizer steps."""
    batch_size: Count = 32
    """Crops per step."""
    crop: Side = Field(default=16, ge=8)
    """Side of the square crops, in pixels."""
    learning_rate: Rate = 4e-3
    """Peak learning rate."""


class FlowPretraining(Settings):
    """Training of the transformer and the text encoder by flow matching."""

    steps: CountOrZero = 1500
    """Optimizer steps."""
    batch_size: Count = 32
    """Images per step."""
    learning_rate: Rate = 3e-3
    """Peak learning rate."""
    prompt_dropout: Share = 0.1
    """Share of images trained with the empty prompt, for classifier-free guidance."""
    clean_shares: dict[str, Annotated[Share, Field(gt=0, lt=1)]] = Field(
        default={"alignment": 0.75, "realism": 0.5, "aesthetics": 0.45, "plausibility": 0.5}
    )
    """Target share of images without a defect, by aspect; an aspect that is absent keeps its share
    in the world."""
    noise_mean: float = Field(default=0.0, ge=-10, le=10)
    """Mean of the logit-normal distribution of training noise levels."""

    @field_validator("clean_shares")
    @classmethod
    def _known_aspects(cls, shares: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(shares) - set(ASPECTS)):
            raise ValueError(f"{unknown} are not aspects of the world, {list(ASPECTS)}")
        return shares


class Check(Settings):
    """Evaluation of the tiny base generator."""

    num_prompts: Count = 200
    """Held-out prompts, with one sample each."""
    num_steps: Count = 12
    """Denoising steps."""
    guidance_scale: Weight = 1.0
    """Weight of classifier-free guidance; 0 is none."""


class Config(StageConfig, BaseSource):
    """A checkpoint of a supported pipeline class, or the sizes of a tiny one to pretrain here."""

    tiny: TinySizes | None = None
    """Sizes of a Z-Image model to pretrain on the world's images."""
    size: Side = Field(32, ge=16)
    """Side of the tiny model's square images, in pixels."""
    vae: VaePretraining = VaePretraining()
    """Training of the autoencoder."""
    flow: FlowPretraining = FlowPretraining()
    """Training of the velocity model."""
    check: Check = Check()
    """Evaluation of the tiny base generator."""
    checkpoint_every: Count = 200
    """Steps between two checkpoints."""

    def faults(self, section: str) -> Iterator[str]:
        """A checkpoint at a branch or tag."""
        yield from self.unfixed(section)


def run(config: Config) -> None:
    """Write generator/, metrics.json, history.jsonl and contact_sheet.png.

    Raises:
        UserError: there are no images to pretrain on, or the hub model cannot be used.
    """
    if config.tiny is None:
        if is_main():
            with whole_output(OUTPUT, config) as folder:
                write_pointer(folder / "generator", config.pointer("base_generator"))
                check_components(*locate(folder / "generator"))
                write_json({}, folder / "metrics.json")
        return
    checkpoint = Checkpoint(
        "base_generator", config, [WORLD / "inspections.parquet", WORLD / "images"]
    )
    table = read_table(WORLD / "inspections.parquet", INSPECTIONS)
    table, held_out = table[~table["held_out"]], table[table["held_out"]]
    if table.empty:
        raise UserError(
            f"{WORLD} has no pretraining images: increase world.size, or set"
            " base_generator.hub_id or path in params.yaml"
        )
    pixels = load_pixels(table, config.size)
    weights = draw_weights(table, config.flow.clean_shares)
    prompts = table["prompt"].tolist()
    pipe = build_pipeline(config.tiny, build_tokenizer(prompts), config.seed)
    history = train_vae(config, checkpoint, pipe, pixels, weights)
    latents = scaled_latents(pipe, pixels)
    history += train_flow(config, checkpoint, pipe, latents, prompts, weights)
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            pipe.save_pretrained(folder / "generator")
            write_history(history, folder / "history.jsonl")
            measure(config, load_generator(folder / "generator"), held_out, folder)
    checkpoint.clear()


def load_pixels(table: pd.DataFrame, size: int) -> Tensor:
    """Images of the table, resized to [N, 3, size, size], in [-1, 1]."""
    store = ImageStore(WORLD / "images")
    images = [
        np.asarray(
            Image.fromarray(store.pixels(identifier)).resize((size, size), Image.Resampling.BICUBIC)
        )
        for identifier in track(table["image_id"], "images")
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_weights(table: pd.DataFrame, clean_shares: dict[str, float]) -> Tensor:
    """Sampling weights [N] of images that give each aspect its target share of clean images.

    Defects of different aspects are independent, so the weights multiply.
    """
    weights = torch.ones(len(table), dtype=torch.float64)
    defects = [{defect["aspect"] for defect in json.loads(text)} for text in table["defects"]]
    for aspect, wanted in clean_shares.items():
        clean = torch.tensor([aspect not in found for found in defects])
        share = clean.double().mean().item()
        if 0 < share < 1:
            weights *= torch.where(clean, wanted / share, (1 - wanted) / (1 - share))
    return weights


def train_vae(
    config: Config, checkpoint: Checkpoint, pipe: Any, pixels: Tensor, weights: Tensor
) -> list[dict[str, float]]:
    """Train the autoencoder on crops; returns the history."""
    settings = config.vae
    optimizer = torch.optim.AdamW(
        pipe.vae.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
    )
    parts = {"vae": pipe.vae, "optimizer": optimizer}
    start, history = _resume(checkpoint, "vae", parts)
    for step in track(range(start, settings.steps), "vae", settings.steps, start):
        generator = step_generator(config.seed, step)
        chosen = torch.multinomial(
            weights, settings.batch_size, replacement=True, generator=generator
        )
        crop = min(settings.crop, config.size)
        top, left = torch.randint(config.size - crop + 1, (2,), generator=generator).tolist()
        batch = pixels[chosen, :, top : top + crop, left : left + crop]
        _set_rate([optimizer], settings.learning_rate * trapezoid(step, settings.steps))
        own = own_part(len(batch))
        loss = torch.zeros(())
        if own:
            loss = len(own) / len(batch) * reconstruction_loss(pipe.vae, batch, generator, own)
            loss.backward()
        metrics = {"vae/loss": loss.item()}
        place = f"base_generator, step {step + 1} of the autoencoder"
        apply_gradients(place, list(pipe.vae.parameters()), [optimizer], MAX_NORM, metrics)
        if (step + 1) % LOG_EVERY == 0:
            history.append({"step": step + 1} | add_up(metrics))
            publish("base_generator", history[-1:])
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == settings.steps:
            _keep(checkpoint, "vae", parts, step + 1, history)
    return history


@torch.no_grad()
def scaled_latents(pipe: Any, pixels: Tensor) -> Tensor:
    """Scaled latents [N, C, h, w] of all images; sets the VAE's shift and scaling factor.

    Raises:
        NotFinite: a latent is not finite.
        UserError: all latents are equal.
    """
    pipe.vae.requires_grad_(False).eval()
    batches = track(pixels.split(256), "latents")
    latents = torch.cat([pipe.vae.encode(batch).latent_dist.mean for batch in batches])
    mean, std = latents.mean().item(), latents.std().item()
    place = "base_generator, the autoencoder after its last step"
    require_finite(place, {"mean of the latents": mean, "their deviation": std}, DIVERGED)
    if std < MIN_DEVIATION:
        raise UserError(
            f"{place}: all latents of the {len(pixels)} images are equal, so they cannot be scaled:"
            " train it longer or at a lower learning rate (base_generator.vae in params.yaml), on"
            " images that differ (world.size)"
        )
    pipe.vae.register_to_config(shift_factor=mean, scaling_factor=1 / std)
    return (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor


def train_flow(
    config: Config,
    checkpoint: Checkpoint,
    pipe: Any,
    latents: Tensor,
    prompts: list[str],
    weights: Tensor,
) -> list[dict[str, float]]:
    """Train transformer and text encoder; returns the history."""
    settings = config.flow
    pipe.transformer.set_attention_backend("_native_math")  # faster on short sequences
    tokens = pipe.tokenizer(
        [chat(pipe.tokenizer, prompt) for prompt in [*prompts, ""]],
        padding=True,
        return_tensors="pt",
    )
    models = torch.nn.ModuleList([pipe.transformer, pipe.text_encoder])
    optimizers = make_optimizers(models, settings.learning_rate)
    parts = {"models": models} | {f"optimizer_{i}": part for i, part in enumerate(optimizers)}
    start, history = _resume(checkpoint, "flow", parts)
    for step in track(range(start, settings.steps), "flow", settings.steps, start):
        generator = step_generator(config.seed + 1, step)
        chosen = torch.multinomial(
            weights, settings.batch_size, replacement=True, generator=generator
        )
        dropped = torch.rand(len(chosen), generator=generator) < settings.prompt_dropout
        rows = torch.where(dropped, len(prompts), chosen)
        noise = torch.randn(latents[chosen].shape, generator=generator)
        sigmas = draw_sigmas(len(chosen), settings.noise_mean, generator)
        _set_rate(optimizers, settings.learning_rate * trapezoid(step, settings.steps))
        own = own_part(len(chosen))
        part, loss = slice(own.start, own.stop), torch.zeros(())
        if own:
            captions = encode_captions(
                pipe.text_encoder, {name: values[rows[part]] for name, values in tokens.items()}
            )
            loss = flow_matching_loss(
                pipe.transformer, latents[chosen[part]], captions, noise[part], sigmas[part]
            )
            loss = len(own) / len(chosen) * loss
            loss.backward()
        metrics = {"flow/loss": loss.item()}
        place = f"base_generator, step {step + 1} of the transformer"
        apply_gradients(place, list(models.parameters()), optimizers, MAX_NORM, metrics)
        if (step + 1) % LOG_EVERY == 0:
            history.append({"step": step + 1} | add_up(metrics))
            publish("base_generator", history[-1:])
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == settings.steps:
            _keep(checkpoint, "flow", parts, step + 1, history)
    return history


def measure(
    config: Config, generator: ImageGenerator, held_out: pd.DataFrame, folder: Path
) -> None:
    """Oracle figures of samples of held-out prompts, with shuffled prompts and clean renders."""
    prompts = list(dict.fromkeys(held_out["prompt"]))[: config.check.num_prompts]
    images = sample(
        generator,
        prompts,
        range(config.seed, config.seed + len(prompts)),
        num_steps=config.check.num_steps,
        guidance_scale=config.check.guidance_scale,
        size=(config.size, config.size),
    )
    arrays = list(images.permute(0, 2, 3, 1).numpy())
    rng = np.random.default_rng(config.seed)
    clean = [render(sample_scene(prompt, rng, defects=()), (32, 32)) for prompt in prompts]
    others = [*prompts[1:], *prompts[:1]]
    metrics = {
        "samples": oracle_figures(arrays, prompts),
        "chance": oracle_figures(arrays, others),
        "clean_renders": oracle_figures(clean, prompts),
    }
    write_json(metrics, folder / "metrics.json")
    sheet = captioned(arrays[:48], prompts[:48], "Samples of the base generator", columns=6)
    sheet.save(folder / "contact_sheet.png")
    logger.info("base generator: %s", metrics["samples"])


def _set_rate(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _resume(checkpoint: Checkpoint, name: str, parts: dict) -> tuple[int, list[dict[str, float]]]:
    state = checkpoint.load(name)
    if state is None:
        return 0, []
    for key, part in parts.items():
        if isinstance(part, torch.optim.Optimizer):
            restore(part, state[key])
        else:
            part.load_state_dict(state[key])
    logger.info("%s: resumed at step %d", name, state["step"])
    return state["step"], state["history"]


def _keep(
    checkpoint: Checkpoint, name: str, parts: dict, step: int, history: list[dict[str, float]]
) -> None:
    states = {key: part.state_dict() for key, part in parts.items()}
    checkpoint.save(name, {**states, "step": step, "history": history})
