"""Memory and operations of the stages that use a GPU: their own code, run on fake tensors.

Deep language models are run at two depths, and what grows with depth is extrapolated to all layers.
Shapes: B images, D dimensions, G traces of a query, N = B x D x G rows.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

from zreward_core.commands import plan_backbone, plan_generator
from zreward_core.commands.fake_run import FakeRun
from zreward_core.commands.plan_backbone import Blueprint
from zreward_core.commands.plan_generator import GeneratorBlueprint
from zreward_core.commands.plan_use import Use, cached, extrapolated
from zreward_core.diffusion.tuning import moving_average, open_weights, recompute_activations
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.engine import FORWARD_TOKENS
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.scorer import RewardModel, student_scores
from zreward_core.models.traces import read_sampled
from zreward_core.training.policy import RewardedPairs
from zreward_core.training.samplers import PairBatch
from zreward_core.training.updates import update

PROMPT = "word " * 64
"""A prompt of about the length of real ones."""
BFLOAT16 = 2
"""Bytes of a weight."""


@cached
def gdso_update(blueprint: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of ``train_gdso.objective`` at the trace limit, and the optimizer's step."""
    stage = importlib.import_module("zreward_core.stages.train_gdso")
    pairs, group = config.micro_batch_pairs, config.group_size

    def parts(backbone: Backbone) -> Any:
        levels, rows = len(backbone.levels), pairs * 2 * group
        trace = backbone.chat.plain("word") * backbone.prompt.max_trace_tokens
        trace = trace[: backbone.prompt.max_trace_tokens]
        drawn = PairBatch(
            [PROMPT] * 2 * pairs,
            [torch.zeros(3, *backbone.pixels.size(size[1], size[0]))] * 2 * pairs,
            [0] * 2 * pairs,
            torch.ones(pairs, 2),
            torch.full((pairs, 2, levels), 1 / levels),
            torch.zeros(pairs, dtype=torch.bool),
        )
        rollouts = Rollouts(
            [trace] * rows,
            torch.ones(rows, dtype=torch.bool),
            torch.zeros(rows, levels),
            torch.ones(rows),
            torch.zeros(rows, dtype=torch.long),
        )
        rewarded = RewardedPairs(
            drawn, rollouts, torch.ones(pairs, 2, group), torch.ones(pairs, 2, group)
        )
        yield stage.objective(backbone, config, rewarded, range(pairs), backbone.snapshot())

    return _trained(blueprint, config, parts)


@cached
def risd_update(blueprint: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of the student's loss, and the optimizer's step."""

    def parts(backbone: Backbone) -> Any:
        count = config.micro_batch_size
        pixels = torch.zeros(3, *backbone.pixels.size(size[1], size[0]))
        scores, _ = student_scores(backbone, [PROMPT] * count, [pixels] * count)
        yield risd_loss(scores, scores.detach().exp(), torch.ones_like(scores[..., 0]) > 0, 1), {}

    return _trained(blueprint, config, parts)


def _trained(blueprint: Blueprint, config: Any, parts: Callable[[Backbone], Any]) -> Use:
    def measure(depth: int) -> Use:
        backbone = blueprint.build(
            config.dtype, config.lora, config.gradient_checkpointing, depth, train=True
        )
        frozen, trained = plan_backbone.weight_bytes(backbone)
        with FakeRun() as run:
            plan_backbone.prepare(backbone, run)
            optimizer = torch.optim.AdamW(backbone.trainable(), lr=1e-4)
            start = run.live
            run.reset()
            update("plan", backbone, [optimizer], parts(backbone), 1.0)
            return Use(
                weights=frozen,
                adapters=trained,
                optimizer=run.live - start,
                activations=run.peak - start,
                operations=run.operations,
            )

    return extrapolated(blueprint.num_layers, measure)


@cached
@torch.no_grad()
def rollouts(
    blueprint: Blueprint,
    dtype: str,
    lora: LoraSettings | None,
    rows: tuple[int, int, int],
    size: tuple[int, int],
) -> tuple[Use, Use]:
    """Prefill of B images, and the last decoding step of their N rows.

    Args:
        rows: B, D, G.
    """
    num_images, num_dimensions, num_traces = rows

    @functools.cache
    def measure(depth: int) -> tuple[Use, Use]:
        backbone = blueprint.build(dtype, lora, False, depth, train=lora is not None)
        backbone.network.eval()
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = torch.zeros(3, *backbone.pixels.size(size[1], size[0]))
            ids, mask = backbone.collate([backbone.prefix(PROMPT, pixels)] * num_images)
            values, grid = backbone.pixels.patches([pixels] * num_images)
            start = run.live
            run.reset()
            _prefix, positions = backbone.network.prefill(ids, mask, values, grid)
            prefill = Use(weights, activations=run.peak - start, operations=run.operations)
            row = torch.arange(num_images).repeat_interleave(num_dimensions * num_traces)
            # in place of a deepcopy of the cache, which corrupts memory on fake tensors
            copied, _ = backbone.network.prefill(ids, mask, values, grid)
            copied.reorder_cache(row)
            trace = backbone.prompt.max_trace_tokens
            for length in (len(backbone.chat.questions[0]) + trace + len(backbone.chat.closing), 1):
                run.reset()
                held = run.live
                feed = torch.zeros(len(row), length, dtype=torch.long)
                mask = torch.ones(len(row), ids.shape[1] + length, dtype=torch.long)
                where = torch.arange(length).expand(len(positions), len(row), -1)
                backbone.network.decode(feed, mask, where, copied).float()
            return prefill, Use(
                weights,
                activations=run.peak - held,
                caches=held - start,
                operations=run.operations,
            )

    layers = blueprint.num_layers
    return (
        extrapolated(layers, lambda depth: measure(depth)[0]),
        extrapolated(layers, lambda depth: measure(depth)[1]),
    )


@cached
@torch.no_grad()
def traces(
    blueprint: Blueprint,
    dtype: str,
    lora: LoraSettings | None,
    rows: tuple[int, int, int],
    size: tuple[int, int],
) -> tuple[Use, int]:
    """One forward over traces that an engine has sampled, and the number of such forwards.

    Args:
        rows: B, D, G.
    """
    num_images, num_dimensions, num_traces = rows
    numbers = []

    def measure(depth: int) -> Use:
        backbone = blueprint.build(dtype, lora, False, depth, train=lora is not None)
        backbone.network.eval()
        limit, question = backbone.prompt.max_trace_tokens, backbone.chat.questions[0]
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = torch.zeros(3, *backbone.pixels.size(size[1], size[0]))
            length = len(backbone.prefix(PROMPT, pixels)) + len(question) + limit
            whole = num_images * num_dimensions
            count = min(whole, max(1, FORWARD_TOKENS // (num_traces * length)))
            numbers.append(-(-whole // count))
            trace = (backbone.chat.plain("word") * limit)[:limit]
            start = run.live
            run.reset()
            read_sampled(
                backbone,
                [PROMPT] * count,
                [pixels] * count,
                [question] * count,
                [trace] * (count * num_traces),
                1.0,
                torch.zeros(count * num_traces),
            )
            return Use(weights, activations=run.peak - start, operations=run.operations)

    return extrapolated(blueprint.num_layers, measure), numbers[0]


@cached
@torch.no_grad()
def scoring(blueprint: Blueprint, dtype: str, count: int, size: tuple[int, int]) -> Use:
    """One batch of the student's scores."""

    def measure(depth: int) -> Use:
        backbone = blueprint.build(dtype, None, False, depth)
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = torch.zeros(3, *backbone.pixels.size(size[1], size[0]))
            start = run.live
            run.reset()
            student_scores(backbone, [PROMPT] * count, [pixels] * count)
            return Use(weights, activations=run.peak - start, operations=run.operations)

    return extrapolated(blueprint.num_layers, measure)


@cached
@torch.no_grad()
def sampling(
    blueprint: GeneratorBlueprint, dtype: str, count: int, guidance: float, size: tuple[int, int]
) -> tuple[Use, Use]:
    """One denoising step of a batch, and its decoding."""
    generator = blueprint.build(dtype)
    with FakeRun() as run:
        weights = plan_generator.prepare(generator, run)
        weights += int(BFLOAT16 * blueprint.text_encoder_parameters)
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
def tuning(generator: GeneratorBlueprint, student: Blueprint, config: Any, count: int) -> Use:
    """One batch of ``_tuning.train_step``: steps without gradients are left out.

    Args:
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
        backbone = student.build(config.dtype, None, False, depth)
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
