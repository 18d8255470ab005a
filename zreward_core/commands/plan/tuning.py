"""Memory and operations of the stages that use a generator: their own code, run on fake tensors."""

import importlib
from typing import Any

import torch

from zreward_core.commands.plan import backbone as plan_backbone
from zreward_core.commands.plan import generator as plan_generator
from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.fake_run import FakeRun
from zreward_core.commands.plan.generator import GeneratorBlueprint
from zreward_core.commands.plan.memory import PROMPT
from zreward_core.commands.plan.rows import dtype_bytes
from zreward_core.commands.plan.use import Use, cached, extrapolated
from zreward_core.diffusion.tuning import moving_average, open_weights, recompute_activations
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.scorer import RewardModel


@cached
@torch.no_grad()
def sampling(
    blueprint: GeneratorBlueprint, dtype: str, count: int, guidance: float, size: tuple[int, int]
) -> tuple[Use, Use]:
    """One denoising step of a batch, and its decoding."""
    generator = blueprint.build(dtype)
    with FakeRun() as run:
        weights = plan_generator.prepare(generator, run)
        weights += int(dtype_bytes(dtype) * blueprint.text_encoder_parameters)
        latents = generator.initial_latents(range(count), size)
        conditions = generator.encode(["a"] * count, guidance)
        timestep = generator.scheduler(latents, 2).timesteps[0]
        found = []
        for step in (
            lambda: generator.velocity(generator.transformer, latents, timestep, conditions),
            lambda: generator.decode(latents),
        ):
            start = run.live
            run.reset()
            step()
            found.append(Use(weights, activations=run.peak - start, operations=run.operations))
    return found[0], found[1]


@cached
def tuning(
    generator: GeneratorBlueprint,
    student: Blueprint,
    lora: LoraSettings | None,
    config: Any,
    count: int,
) -> Use:
    """One batch of ``_tuning.train_step``: steps without gradients are left out.

    Args:
        lora: low-rank updates of the student, apart from its weights.
        count: images of a batch in one process.
    """
    stage = importlib.import_module("zreward_core.stages._tuning")
    settings = config.model_copy(
        update={
            "velocity_weight": config.velocity_weight if config.lora else 0.0,
            "batch_size": count,
            "accumulation": 1,
            "num_steps": config.gradient_steps,
            "gradient_window": config.gradient_steps,
        }
    )

    def measure(depth: int) -> Use:
        backbone = student.build(config.dtype, lora, False, depth, train=lora is not None)
        backbone.network.requires_grad_(False)
        painter = generator.build(config.dtype)
        rank, alpha = (config.lora.rank, config.lora.alpha) if config.lora else (None, 1)
        with torch.device("meta"):
            weights, frozen = open_weights(painter, rank, alpha, 0)
        if config.gradient_checkpointing:
            recompute_activations(painter)
            backbone.recompute_activations()
        with FakeRun() as run:
            held = plan_backbone.prepare(backbone, run) + plan_generator.prepare(painter, run)
            reward = RewardModel(backbone)
            opened = dict(painter.transformer.named_parameters())
            trained = {name: opened[name] for name in weights}
            sizes = sum(one.numel() * one.element_size() for one in trained.values())
            optimizer = torch.optim.AdamW(trained.values(), lr=config.learning_rate)
            start = run.live
            average = moving_average(trained, config.ema_decay)
            kept = [one.clone() for one in average.shadow_params]  # of the last validation
            run.reset()
            stage.train_step(
                settings, 0, painter, reward, None, frozen, trained, optimizer, [PROMPT]
            )
            assert len(kept) == len(trained)
            return Use(
                weights=held - sizes if config.lora else held,  # with the frozen generator
                adapters=sizes,
                optimizer=run.live - start,  # with the averages
                activations=run.peak - start,
                operations=run.operations,
            )

    return extrapolated(student.num_layers, measure)
