"""finetune_generator: champion, generator base, prompts, panel -> the tuned generator.

Equation 20 of Z-Reward (arXiv:2606.09076): the reward goes back through the VAE and several
denoising steps into the generator. The panel (the teacher) is watched and never trained on.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from zreward_core.config import Settings, StageConfig, UserError
from zreward_core.diffusion.flow import step_generator
from zreward_core.diffusion.generator import CARD, Pipeline, load_pipeline
from zreward_core.diffusion.sampling import (
    initial_latents,
    sample,
    sample_with_gradients,
)
from zreward_core.diffusion.tuning import (
    Velocity,
    assign,
    choose_steps,
    close_weights,
    open_weights,
    swapped,
    update_average,
)
from zreward_core.evaluation.image_sheets import BeforeAfter, plot_before_after
from zreward_core.evaluation.paired import compare_means, hacked_dimensions
from zreward_core.evaluation.plots import plot_curves, plot_dimensions
from zreward_core.losses.refl import aggregate_rewards, refl_loss, velocity_distance
from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.distributed import (
    add_gradients,
    add_up,
    gather,
    own_part,
    precision,
)
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track, write_history
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import PROMPTS, read_table, write_json
from zreward_core.world.oracle import judge_many
from zreward_core.world.scenes import ASPECTS

logger = logging.getLogger(__name__)
OUTPUT = Path("data/finetune_generator")
PROMPT_TABLE = Path("data/candidates/prompts.parquet")
BASE = Path("data/base_generator/generator")
STUDENT = Path("data/champion/student")
TEACHER = Path("data/train_gdso/teacher")
NUM_SHOWN = 24
"""Pairs on the contact sheet."""

Scorer = Callable[[list[str], Tensor], np.ndarray]
"""prompts, images [B, 3, H, W] uint8 -> mean scores [B, D]."""


class Lora(Settings):
    """Low-rank adapters; they are folded into the weights in the end."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    alpha: int = Field(default=16, ge=1)
    """Scale of the adapters times their rank."""


class Watch(Settings):
    """Validation during tuning, on prompts that are not trained on."""

    num_prompts: int = Field(default=64, ge=1)
    """Prompts of purpose generator_train that are set aside."""
    every: int = Field(default=20, ge=1)
    """Steps between two validations."""
    patience: int = Field(default=2, ge=1)
    """Validations in a row that end tuning, each with a dimension in which the panel is below its
    best and the reward above what it was then; the weights before them are kept."""


class Config(StageConfig):
    """How the generator is tuned."""

    steps: int = Field(60, ge=0)
    """Optimizer steps; 0 leaves the generator as it is."""
    batch_size: int = Field(16, ge=1)
    """Images at a time."""
    accumulation: int = Field(1, ge=1)
    """Batches in an optimizer step."""
    learning_rate: float = Field(3e-4, gt=0)
    """Learning rate of AdamW, constant after ten steps."""
    max_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    ema_decay: float = Field(0.9, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is kept."""
    velocity_weight: float = Field(2.0, ge=0)
    """Weight of the squared velocity distance to the frozen generator."""
    weights: dict[str, float] | None = None
    """Weight of each dimension in Agg (equation 20); null is the plain mean."""
    lora: Lora | None = None
    """Adapters to train; null trains all weights of the transformer."""
    num_steps: int = Field(12, ge=1)
    """Denoising steps of a sample."""
    gradient_steps: int = Field(3, ge=1)
    """Denoising steps that carry gradients in one sample."""
    gradient_window: int = Field(6, ge=1)
    """How many of the last denoising steps they are drawn from."""
    guidance_scale: float = Field(2.0, ge=0)
    """Weight of classifier-free guidance; 0 is none."""
    size: tuple[int, int] = (32, 32)
    """(width, height) of the images in pixels."""
    gradient_checkpointing: bool = False
    """Compute activations twice to save memory."""
    dtype: str = Field("float32", pattern="^(float32|bfloat16)$")
    """Precision of generator and reward."""
    panel: bool = True
    """Watch the teacher as a panel that is never trained on."""
    oracle: bool = False
    """Watch the pixel oracle too, never trained on either; images of the miniature only."""
    panel_traces: int = Field(1, ge=1)
    """Traces that the panel's score of an image is averaged over."""
    watch: Watch = Watch()
    """Validation during tuning."""
    checkpoint_every: int = Field(20, ge=1)
    """Steps between two checkpoints."""


def run(config: Config) -> None:
    """Write generator/, metrics.json, history.jsonl, plots and contact_sheet.png.

    Raises:
        UserError: an input is missing, or there are too few prompts.
    """
    train, watched, held_out = divide_prompts(config)
    inputs = [PROMPT_TABLE, BASE, STUDENT, *([TEACHER] if config.panel else [])]
    checkpoint = Checkpoint("finetune_generator", config, [p for p in inputs if p.exists()])
    device = pick_device()
    reward = RewardModel.from_pretrained(STUDENT, device, config.dtype)
    judges = load_judges(config, reward, device)
    pipe = load_pipeline(BASE, getattr(torch, config.dtype)).to(device)
    before = sample_all(config, pipe, held_out)

    history = tune(config, checkpoint, pipe, reward, judges, train, watched)
    after = sample_all(config, pipe, held_out)
    scores = {
        name: (judge_all(judge, held_out, before), judge_all(judge, held_out, after))
        for name, judge in judges.items()
    }
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            pipe.save_pretrained(folder / "generator")
            write_json(
                {"student_sha256": tree_hash(STUDENT), "base_sha256": tree_hash(BASE)},
                folder / "generator" / CARD,
            )
            metrics = {
                name: compare_means(*pair, reward.dimensions, config.seed)
                for name, pair in scores.items()
            }
            write_json(metrics, folder / "metrics.json")
            write_history(history, folder / "history.jsonl")
            show(folder, history, reward.dimensions, held_out, before, after, scores["reward"])
    checkpoint.clear()


def divide_prompts(config: Config) -> tuple[list[str], list[str], list[str]]:
    """Prompts to train on, to watch, and to measure on in the end.

    Raises:
        UserError: one of the three is empty.
    """
    table = read_table(PROMPT_TABLE, PROMPTS)
    prompts = table.loc[table["purpose"] == "generator_train", "prompt"].tolist()
    held_out = table.loc[table["purpose"] == "generator_eval", "prompt"].tolist()
    watched, train = prompts[: config.watch.num_prompts], prompts[config.watch.num_prompts :]
    if not train or not held_out:
        raise UserError(
            f"{PROMPT_TABLE} has {len(prompts)} prompts of purpose generator_train and"
            f" {len(held_out)} of generator_eval: more than"
            f" {config.watch.num_prompts} and at least 1 are needed"
        )
    return train, watched, held_out


def load_judges(config: Config, reward: RewardModel, device: torch.device) -> dict[str, Scorer]:
    """The trained-on reward, and the panel."""

    def student(prompts: list[str], images: Tensor) -> np.ndarray:
        arrays = list(images.permute(0, 2, 3, 1).numpy())
        return reward.score(prompts, arrays).mean.double().numpy()

    judges: dict[str, Scorer] = {"reward": student}
    if config.panel:
        teacher = TeacherJudge.from_pretrained(
            TEACHER, config.panel_traces, config.seed, device, config.dtype
        )

        @torch.no_grad()
        def panel(prompts: list[str], images: Tensor) -> np.ndarray:
            pixels = images.to(device).float() / 255
            return teacher.score(prompts, pixels).double().cpu().numpy()

        judges["panel"] = panel
    if config.oracle:
        judges["oracle"] = partial(oracle_scores, reward.dimensions)
    return judges


def oracle_scores(dimensions: list[str], prompts: list[str], images: Tensor) -> np.ndarray:
    """Scores [B, D] by the pixel oracle.

    Raises:
        UserError: a dimension that is no aspect of the miniature.
    """
    if unknown := sorted(set(dimensions) - set(ASPECTS)):
        raise UserError(f"finetune_generator.oracle: the pixel oracle knows no {unknown}")
    found = judge_many(images.permute(0, 2, 3, 1).numpy(), prompts)
    return np.array([[one.scores[name] for name in dimensions] for one in found])


def sample_all(config: Config, pipe: Pipeline, prompts: list[str]) -> Tensor:
    """One image for each prompt [B, 3, H, W] uint8, always from the same seeds.

    Each process samples a part and all get all of them.
    """
    own = own_part(len(prompts))
    images = sample(
        pipe,
        prompts[own.start : own.stop],
        range(config.seed + own.start, config.seed + own.stop),
        num_steps=config.num_steps,
        guidance_scale=config.guidance_scale,
        size=config.size,
    )
    return torch.cat(gather([images]))


def judge_all(judge: Scorer, prompts: list[str], images: Tensor) -> np.ndarray:
    """Mean scores [B, D]; each process judges a part and all get all of them."""
    own = own_part(len(prompts))
    part = slice(own.start, own.stop)
    return np.concatenate(gather([judge(prompts[part], images[part])] if own else []))


def tune(
    config: Config,
    checkpoint: Checkpoint,
    pipe: Pipeline,
    reward: RewardModel,
    judges: dict[str, Scorer],
    train: list[str],
    watched: list[str],
) -> list[dict[str, float]]:
    """Tune the pipeline's transformer in place; returns the history."""
    if config.steps == 0:
        return []
    transformer = pipe.transformer
    rank = config.lora.rank if config.lora else None
    weights, frozen = open_weights(
        transformer, rank, config.lora.alpha if config.lora else 1, config.seed
    )
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=0.0)
    start = {name: weight.detach().float().clone() for name, weight in weights.items()}
    state = checkpoint.load("state") or {
        "step": 0,
        "average": start,
        "sound": start,
        "watched": {name: [] for name in judges},
        "doubts": 0,
        "stopped": False,
        "history": [],
    }
    if state["step"]:
        assign(weights, state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        state["average"] = {n: v.to(pipe.device) for n, v in state["average"].items()}
    else:
        row = validate(config, pipe, judges, reward.dimensions, watched, state)
        state["history"].append({"step": 0, **row})
    for step in track(range(state["step"], config.steps), "tune", config.steps, state["step"]):
        if state["stopped"]:
            break
        row = train_step(config, step, pipe, reward, frozen, weights, optimizer, train)
        update_average(state["average"], weights, config.ema_decay, step)
        number = step + 1
        if number % config.watch.every == 0 or number == config.steps:
            with swapped(weights, state["average"]):
                row |= validate(config, pipe, judges, reward.dimensions, watched, state)
        state["history"].append(row)
        state["step"] = number
        if number % config.checkpoint_every == 0 or number == config.steps or state["stopped"]:
            state["weights"] = {name: weight.detach() for name, weight in weights.items()}
            state["optimizer"] = optimizer.state_dict()
            checkpoint.save("state", state)
    assign(weights, state["sound" if state["stopped"] else "average"])
    close_weights(transformer, rank)
    transformer.disable_gradient_checkpointing()
    return state["history"]


def train_step(
    config: Config,
    step: int,
    pipe: Pipeline,
    reward: RewardModel,
    frozen: Velocity,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    train: list[str],
) -> dict[str, float]:
    """One optimizer step: the loss of equation 20 and the distance to the frozen generator.

    Every process draws all batches and computes its part of their images.
    """
    generator = step_generator(config.seed, step)
    num_images = config.batch_size * config.accumulation
    importance = dimension_weights(config, reward.dimensions)
    totals = {"tune/reward": 0.0, "tune/velocity_distance": 0.0}
    own = own_part(num_images)
    for first in range(0, num_images, config.batch_size):
        drawn = torch.randint(len(train), (config.batch_size,), generator=generator).tolist()
        seeds = torch.randint(2**62, (config.batch_size,), generator=generator).tolist()
        gradient_steps = choose_steps(
            config.num_steps, config.gradient_steps, config.gradient_window, generator
        )
        part = slice(max(own.start - first, 0), max(own.stop - first, 0))
        prompts = [train[index] for index in drawn[part]]
        if not prompts:
            continue
        with precision():
            samples = sample_with_gradients(
                pipe,
                prompts,
                initial_latents(pipe, seeds[part], config.size),
                num_steps=config.num_steps,
                gradient_steps=gradient_steps,
                guidance_scale=config.guidance_scale,
            )
            rewards = reward.reward(prompts, samples.pixels)
        if importance is not None:
            importance = importance.to(rewards)
        loss = refl_loss(rewards, num_images, importance)
        if config.velocity_weight > 0:
            with precision():
                distances = [
                    velocity_distance(
                        one.velocity,
                        frozen(one.latents, one.timestep, samples.conditions),
                        num_images * len(samples.steps),
                    )
                    for one in samples.steps
                ]
            distance = torch.stack(distances).sum()
            loss = loss + config.velocity_weight * distance
            totals["tune/velocity_distance"] += distance.item()
        loss.backward()
        aggregate = aggregate_rewards(rewards.detach(), importance)
        totals["tune/reward"] += aggregate.sum().item() / num_images
    add_gradients(weights.values())
    norm = torch.nn.utils.clip_grad_norm_(weights.values(), config.max_norm)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / 10)
    optimizer.step()
    optimizer.zero_grad()
    return {"step": step + 1, **add_up(totals), "tune/gradient_norm": norm.item()}


def dimension_weights(config: Config, dimensions: list[str]) -> Tensor | None:
    """Weights of Agg in the order of the dimensions.

    Raises:
        UserError: a weight names no dimension of the reward, is negative, or all are zero.
    """
    if config.weights is None:
        return None
    unknown = sorted(set(config.weights) - set(dimensions))
    values = [config.weights.get(name, 0.0) for name in dimensions]
    if unknown or min(values) < 0 or sum(values) == 0:
        raise UserError(
            f"params.yaml: 'finetune_generator.weights' must give non-negative weights, not all"
            f" zero, to some of {dimensions}"
        )
    return torch.tensor(values)


def validate(
    config: Config,
    pipe: Pipeline,
    judges: dict[str, Scorer],
    dimensions: list[str],
    prompts: list[str],
    state: dict[str, Any],
) -> dict[str, float]:
    """Mean scores of each judge by dimension, on the same prompts and seeds each time.

    The averaged weights are kept in the state as long as nothing speaks of hacking; validations in
    a row where something does are counted there, until they stop tuning.
    """
    images = sample_all(config, pipe, prompts)
    row: dict[str, float] = {}
    for judge, score in judges.items():
        scores = judge_all(score, prompts, images)
        state["watched"][judge].append(torch.from_numpy(scores))
        means = scores.mean(axis=0)
        row |= {f"{judge}/{name}": float(means[i]) for i, name in enumerate(dimensions)}
        row[f"{judge}/mean"] = float(means.mean())
    hacked = []
    if config.panel:
        panel, reward = (
            torch.stack(state["watched"][name]).numpy() for name in ("panel", "reward")
        )
        hacked = hacked_dimensions(panel, reward, dimensions, config.seed)
    state["doubts"] = state["doubts"] + 1 if hacked else 0
    state["stopped"] = state["doubts"] == config.watch.patience
    if hacked:
        logger.warning("the panel fell while the reward rose: %s", ", ".join(hacked))
    else:
        state["sound"] = {name: value.clone() for name, value in state["average"].items()}
    return row


def show(
    folder: Path,
    history: list[dict[str, float]],
    dimensions: list[str],
    prompts: list[str],
    before: Tensor,
    after: Tensor,
    rewards: tuple[np.ndarray, np.ndarray],
) -> None:
    """Write the contact sheet and, where there was any training, its plots."""
    old, new = (images.permute(0, 2, 3, 1).numpy() for images in (before, after))
    means = [scores.mean(axis=1) for scores in rewards]
    pairs = [
        BeforeAfter(prompts[i], old[i], new[i], f"reward {means[0][i]:.2f} → {means[1][i]:.2f}")
        for i in range(min(NUM_SHOWN, len(prompts)))
    ]
    plot_before_after(pairs, folder / "contact_sheet.png", columns=4)
    if not history:
        return
    judges = {
        "reward": "reward (trained on)",
        "panel": "panel (never trained on)",
        "oracle": "pixel oracle",
    }
    present = {name: title for name, title in judges.items() if f"{name}/mean" in history[0]}
    plot_dimensions(
        history, present, dimensions, "Scores on watched prompts", folder / "validation.png"
    )
    curves = {
        "tune/reward": "reward of training samples (points)",
        "tune/velocity_distance": "squared velocity distance",
        "tune/gradient_norm": "gradient norm before clipping",
    }
    plot_curves(history, curves, "Reward back-propagation", folder / "curves.png")
