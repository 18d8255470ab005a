"""Settings and loop of finetune_generator. Not a stage."""

import copy
import logging
from typing import Any, Self

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from zreward_core.config import (
    Count,
    CountOrZero,
    DtypeName,
    Positive,
    Rate,
    Settings,
    Share,
    Side,
    StageConfig,
    UserError,
    Weight,
)
from zreward_core.diffusion.flow import step_generator
from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.sampling import sample, sample_with_gradients
from zreward_core.diffusion.tuning import (
    Velocity,
    averaged,
    choose_steps,
    moving_average,
    open_weights,
    recompute_activations,
)
from zreward_core.evaluation.early_stopping import HackingMonitor
from zreward_core.models.scorer import RewardModel
from zreward_core.offloading import placed
from zreward_core.runtime.checkpoint import Checkpoint, require_shapes
from zreward_core.runtime.distributed import add_up, gather, own_part, precision
from zreward_core.runtime.progress import publish, publish_sheet, say_metrics, track
from zreward_core.runtime.sharding import restore
from zreward_core.schemas import require_finite
from zreward_core.sheets import captioned
from zreward_core.training.judges import Judge, as_arrays, judge_samples, mean_scores
from zreward_core.training.reward_tuning import tuning_loss
from zreward_core.training.updates import DIVERGED, apply_gradients

logger = logging.getLogger(__name__)
STAGE = "finetune_generator"
WARMUP_STEPS = 10
"""Steps of linear warm-up of the learning rate."""
NUM_KEPT = 6
"""Validation samples of each validation that are kept."""
MAX_EDGE = 256
"""Longest edge of the samples that are kept, in pixels."""


class Lora(Settings):
    """Low-rank adapters; they are merged into the weights after tuning."""

    rank: Count = 16
    """Rank of the adapters."""
    alpha: Count = 16
    """Scale of the adapters times their rank."""


class Watch(Settings):
    """Validation during tuning, on prompts excluded from training."""

    num_prompts: Count = 64
    """Prompts of purpose generator_train that are excluded from training."""
    every: Count = 200
    """Steps between two validations."""
    patience: Count = 2
    """Early-stopping patience: tuning ends after this many validations in a row in which, in some
    dimension, the panel is below its best and the reward above its value at that best. The weights
    from before them are kept."""


class Config(StageConfig):
    """Settings of reward tuning."""

    steps: CountOrZero = 60
    """Optimizer steps; 0 leaves the generator unchanged."""
    batch_size: Count = 16
    """Images at a time."""
    accumulation: Count = 1
    """Batches in an optimizer step."""
    learning_rate: Rate = 3e-4
    """Learning rate of AdamW, constant after ten steps of linear warm-up."""
    max_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    ema_decay: Share = Field(0.9, lt=1)
    """Decay of the moving average of the weights; the tuned generator is the average."""
    velocity_weight: Weight = 2.0
    """Weight of the velocity regularizer: squared velocity distance to the frozen generator."""
    weights: dict[str, Weight] | None = None
    """Weight of each dimension in Agg (equation 20); null is the plain mean."""
    lora: Lora | None = None
    """Adapters to train; null trains all weights of the transformer."""
    num_steps: Count = 12
    """Denoising steps of a sample."""
    gradient_steps: Count = 3
    """Denoising steps that carry gradients in one sample."""
    gradient_window: Count = 6
    """Number of last denoising steps that ``gradient_steps`` are drawn from."""
    guidance_scale: Weight = 2.0
    """Guidance scale as the pipeline defines it; Z-Image is unguided at 0, others at 1."""
    size: tuple[Side, Side] = (1024, 1024)
    """(width, height) of the images in pixels."""
    sample_batch_size: Count = 64
    """Images sampled at a time for validation and the final comparison."""
    gradient_checkpointing: bool = False
    """Recompute the activations of transformer, VAE and reward in the backward pass."""
    dtype: DtypeName = "float32"
    """Data type of the weights of generator, reward and panel; adapters are float32."""
    panel: bool = True
    """Evaluate the teacher as a panel that is never trained on."""
    oracle: bool = False
    """Evaluate the pixel oracle too; miniature world only."""
    panel_traces: Count = 1
    """Reasoning traces averaged in the panel's score of an image."""
    watch: Watch = Watch()
    """Validation during tuning."""
    checkpoint_every: Count = 20
    """Steps between two checkpoints."""

    @property
    def sampling(self) -> dict[str, Any]:
        """Keyword arguments of ``sample``."""
        return {
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "size": self.size,
            "batch_size": self.sample_batch_size,
        }

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("weights must not all be 0; null gives every dimension the same")
        return self


def sample_all(config: Config, generator: ImageGenerator, prompts: list[str]) -> Tensor:
    """One image for each prompt [B, 3, H, W] uint8, from the same seeds in every call.

    Each process samples a part; all processes get all images.
    """
    own = own_part(len(prompts))
    seeds = range(config.seed + own.start, config.seed + own.stop)
    with placed(generator.text_encoders, generator.pipe.device):
        images = sample(generator, prompts[own.start : own.stop], seeds, **config.sampling)
    return torch.cat(gather([images]))


def tune(
    config: Config,
    checkpoint: Checkpoint,
    generator: ImageGenerator,
    reward: RewardModel,
    judges: dict[str, Judge],
    train: list[str],
    watched: list[str],
) -> tuple[list[dict[str, float]], dict[int, Tensor]]:
    """Tune the generator's transformer in place; adapters are not merged.

    Returns:
        The history, and step to samples of the first watched prompts, [N, H, W, 3] uint8.
    """
    if config.steps == 0:
        return [], {}
    weights, frozen = open_weights(
        generator,
        config.lora.rank if config.lora else None,
        config.lora.alpha if config.lora else 1,
        config.seed,
    )
    if config.gradient_checkpointing:
        recompute_activations(generator)
        reward.backbone.recompute_activations()
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=0.0)
    average = moving_average(weights, config.ema_decay)
    weights_D = dimension_weights(config, reward.dimensions)
    monitor = HackingMonitor(reward.dimensions, config.watch.patience, config.seed)
    start: dict[str, Any] = {"step": 0, "stopped": False, "history": [], "samples": {}}
    state = checkpoint.load("state") or start

    def validate(step: int) -> dict[str, float]:
        """Metrics of the averaged weights, which are kept unless a dimension is hacked."""
        with averaged(weights, average):
            scores, state["samples"][step] = score_watched(config, step, generator, judges, watched)
        hacked: list[str] = []
        if config.panel:
            verdict = monitor.update(scores["reward"], scores["panel"], step)
            hacked, state["stopped"] = verdict.hacked, verdict.stop
            if hacked:
                logger.warning("%s", verdict)
        if not hacked:
            state["kept"] = copy.deepcopy(average.shadow_params)
        return mean_scores(scores, reward.dimensions)

    publish(STAGE, state["history"], anew=True)
    for step, images in state["samples"].items():
        publish_sheet(STAGE, step, sample_sheet(step, images.numpy(), watched))
    if state["step"] == 0:
        state["history"].append({"step": 0, **validate(0)})
        publish(STAGE, state["history"])
    else:
        restore_state(state, generator, weights, optimizer, average, monitor)
    for step in track(range(state["step"], config.steps), "tune", config.steps, state["step"]):
        if state["stopped"]:
            break
        row = train_step(
            config, step, generator, reward, weights_D, frozen, weights, optimizer, train
        )
        average.step(weights.values())
        number = step + 1
        if number % config.watch.every == 0 or number == config.steps:
            row |= validate(number)
        state["history"].append(row)
        publish(STAGE, [row])
        state["step"] = number
        if number % config.checkpoint_every == 0 or number == config.steps or state["stopped"]:
            state["weights"] = {name: weight.detach() for name, weight in weights.items()}
            state["optimizer"] = optimizer.state_dict()
            state["average"] = average.state_dict()
            state["monitor"] = monitor.state_dict()
            checkpoint.save("state", state)
    if state["stopped"]:
        average.shadow_params = state["kept"]
    average.copy_to(weights.values())
    generator.transformer.requires_grad_(False)
    say_metrics(STAGE, state["history"])
    return state["history"], state["samples"]


def restore_state(
    state: dict[str, Any],
    generator: ImageGenerator,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: EMAModel,
    monitor: HackingMonitor,
) -> None:
    """Continue from a checkpoint of ``tune``.

    Raises:
        UserError: it has the shapes of other weights.
    """
    saved = [state["weights"].get(name, torch.zeros(0)) for name in weights]
    require_shapes([*saved, *state["average"]["shadow_params"]], [*weights.values()] * 2)
    generator.transformer.load_state_dict(state["weights"], strict=False)
    restore(optimizer, state["optimizer"])
    average.load_state_dict(state["average"])
    average.to(generator.pipe.device)
    monitor.load_state_dict(state["monitor"])


def score_watched(
    config: Config,
    step: int,
    generator: ImageGenerator,
    judges: dict[str, Judge],
    watched: list[str],
) -> tuple[dict[str, np.ndarray], Tensor]:
    """Sample the watched prompts; publishes the first samples.

    Returns:
        Scores [B, D] by judge, and the first samples, reduced, [N, H, W, 3] uint8.
    """
    images = as_arrays(sample_all(config, generator, watched))
    shown = reduced(images[:NUM_KEPT])
    publish_sheet(STAGE, step, sample_sheet(step, shown, watched))
    scores = judge_samples(judges, watched, lambda part: images[part.start : part.stop])
    return scores, torch.from_numpy(shown)


def sample_sheet(step: int, images: np.ndarray, prompts: list[str]) -> Image.Image:
    """Images [N, H, W, 3] uint8 of a step, each above its prompt."""
    title = f"Samples of watched prompts, step {step}"
    return captioned(list(images), prompts[: len(images)], title, columns=3)


def reduced(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, 3] uint8, averaged over squares so that no edge exceeds ``MAX_EDGE``."""
    side = -(-max(images.shape[1:3]) // MAX_EDGE)
    height, width = (size // side for size in images.shape[1:3])
    squares = images[:, : height * side, : width * side].reshape(
        len(images), height, side, width, side, 3
    )
    return squares.mean((2, 4)).round().astype(np.uint8)


def train_step(
    config: Config,
    step: int,
    generator: ImageGenerator,
    reward: RewardModel,
    weights_D: Tensor | None,
    frozen: Velocity,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    train: list[str],
) -> dict[str, float]:
    """One optimizer step on equation 20 plus the velocity regularizer; returns its metrics.

    Every process draws all batches and computes its part of their images.

    Args:
        weights_D: see ``dimension_weights``.
        frozen: velocity of the generator before tuning.
        weights: the trainable weights by name.
        train: prompts.
    """
    place = f"{STAGE}, step {step + 1}"
    rng = step_generator(config.seed, step)
    num_images = config.batch_size * config.accumulation
    totals = {"tune/reward": 0.0, "tune/velocity_distance": 0.0}
    own = own_part(num_images)
    for first in range(0, num_images, config.batch_size):
        drawn = torch.randint(len(train), (config.batch_size,), generator=rng).tolist()
        seeds = torch.randint(2**62, (config.batch_size,), generator=rng).tolist()
        gradient_steps = choose_steps(
            config.num_steps, config.gradient_steps, config.gradient_window, rng
        )
        part = slice(max(own.start - first, 0), max(own.stop - first, 0))
        prompts = [train[index] for index in drawn[part]]
        if not prompts:
            continue
        latents = generator.initial_latents(seeds[part], config.size)
        with precision():
            samples = sample_with_gradients(
                generator,
                prompts,
                latents,
                num_steps=config.num_steps,
                gradient_steps=gradient_steps,
                guidance_scale=config.guidance_scale,
            )
        mean = samples.pixels.detach().mean().item()
        require_finite(place, {"the mean of the pixels": mean}, DIVERGED)
        loss, metrics = tuning_loss(
            samples, prompts, reward, weights_D, frozen, config.velocity_weight, num_images
        )
        loss.backward()
        for name, value in metrics.items():
            totals[name] += value
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS)
    norm = apply_gradients(place, list(weights.values()), [optimizer], config.max_norm, totals)
    return {"step": step + 1, **add_up(totals), "tune/gradient_norm": norm}


def dimension_weights(config: Config, dimensions: list[str]) -> Tensor | None:
    """Weights [D] of Agg (equation 20) in the order of the dimensions; None for the plain mean.

    Raises:
        UserError: a weight is for an unknown dimension.
    """
    if config.weights is None:
        return None
    unknown = sorted(set(config.weights) - set(dimensions))
    if unknown:
        raise UserError(
            f"params.yaml: 'finetune_generator.weights' has {unknown}, which the student does not"
            f" score: give weights to some of {dimensions}"
        )
    return torch.tensor([config.weights.get(name, 0.0) for name in dimensions])
