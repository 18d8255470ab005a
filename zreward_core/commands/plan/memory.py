"""Memory and operations of the stages that use a GPU: their own code, run on fake tensors.

Deep language models are run at two depths, and what grows with depth is extrapolated to all layers.
Shapes: B images, D dimensions, G traces of a query, N = B x D x G rows.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

from zreward_core.commands.plan import backbone as plan_backbone
from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.fake_run import FakeRun
from zreward_core.commands.plan.use import Use, cached, extrapolated
from zreward_core.losses.risd import risd_loss
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.scorer import student_scores
from zreward_core.models.traces import read_sampled
from zreward_core.training.chains import Chains, chain_loss
from zreward_core.training.policy import RewardedPairs
from zreward_core.training.samplers import PairBatch
from zreward_core.training.updates import update

PROMPT = "word " * 64
"""A prompt of about the length of real ones."""


@cached
def pairs_update(stage: str, blueprint: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of pairs at the trace limit, and the optimizer's step.

    Args:
        stage: whose loss is computed.
    """
    module = importlib.import_module(f"zreward_core.stages.{stage}")
    objective = getattr(module, "objective", None) or module.loss_of
    pairs, group = config.micro_batch_pairs, config.group_size

    def parts(backbone: Backbone) -> Any:
        levels = len(backbone.levels)
        drawn = PairBatch(
            [PROMPT] * 2 * pairs,
            [_image(backbone, size)] * 2 * pairs,
            [0] * 2 * pairs,
            torch.ones(pairs, 2),
            torch.full((pairs, 2, levels), 1 / levels),
            torch.zeros(pairs, dtype=torch.bool),
        )
        rewarded = RewardedPairs(
            drawn,
            _sampled(backbone, pairs * 2 * group),
            torch.ones(pairs, 2, group),
            torch.ones(pairs, 2, group),
        )
        yield objective(backbone, config, rewarded, range(pairs), backbone.snapshot())

    return _trained(blueprint, config, parts)


@cached
def opd_update(student: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of ``train_opd.loss_of`` without the teacher, and the optimizer's step."""
    stage = importlib.import_module("zreward_core.stages.train_opd")
    images, group = config.micro_batch_images, config.group_size

    def parts(backbone: Backbone) -> Any:
        rollouts = _sampled(backbone, images * group)
        drawn = stage.Batch(
            [PROMPT] * images, [_image(backbone, size)] * images, [0] * images, rollouts
        )
        tokens = backbone.prompt.max_trace_tokens + 1  # with the answer
        drawn.advantages[0] = torch.ones(images * group, tokens)  # what the teacher is read for
        yield stage.loss_of(backbone, None, config, drawn, range(images))

    return _trained(student, config, parts)


@cached
def chain_update(blueprint: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of rationales, and the optimizer's step."""
    count = config.micro_batch_size

    def parts(backbone: Backbone) -> Any:
        levels = len(backbone.levels)
        data = Chains(
            [PROMPT] * count,
            [_image(backbone, size)] * count,
            [0] * count,
            _sampled(backbone, count).tokens,
            torch.full((count, levels), 1 / levels),
        )
        rows = list(range(count))
        yield chain_loss(backbone, data, config.score_weight, config.mass_weight, rows, rows)

    return _trained(blueprint, config, parts)


@cached
def risd_update(blueprint: Blueprint, config: Any, size: tuple[int, int]) -> Use:
    """One micro-batch of the student's loss, and the optimizer's step."""

    def parts(backbone: Backbone) -> Any:
        count = config.micro_batch_size
        pixels = _image(backbone, size)
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
) -> tuple[Use, Use, int]:
    """Prefill of B images, the last decoding step of their N rows, and the number of steps.

    All rows are in one loop: what one question is longer than another is fed in steps.

    Args:
        rows: B, D, G.
    """
    num_images, num_dimensions, num_traces = rows
    numbers: list[int] = []

    @functools.cache
    def measure(depth: int) -> tuple[Use, Use]:
        backbone = blueprint.build(dtype, lora, False, depth, train=lora is not None)
        backbone.network.eval()
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = _image(backbone, size)
            ids, mask = backbone.collate([backbone.prefix(PROMPT, pixels)] * num_images)
            values, grid = backbone.pixels.patches([pixels] * num_images)
            start = run.live
            run.reset()
            cache, positions = backbone.network.prefill(ids, mask, values, grid)
            prefill = Use(weights, activations=run.peak - start, operations=run.operations)
            row = torch.arange(num_images).repeat_interleave(num_dimensions * num_traces)
            cache.reorder_cache(row)
            asked = [len(question) for question in backbone.chat.questions]
            trace = backbone.prompt.max_trace_tokens + len(backbone.chat.closing)
            numbers.append(trace + max(asked) - min(asked))
            for length in (max(asked) + trace, 1):
                run.reset()
                held = run.live
                feed = torch.zeros(len(row), length, dtype=torch.long)
                mask = torch.ones(len(row), ids.shape[1] + length, dtype=torch.long)
                where = torch.arange(length).expand(len(positions), len(row), -1)
                decoded = backbone.network.decode(feed, mask, where, cache, backbone.label_ids)
                decoded.tokens.float()
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
        numbers[0],
    )


@cached
@torch.no_grad()
def traces(
    blueprint: Blueprint,
    dtype: str,
    lora: LoraSettings | None,
    rows: tuple[int, int, int],
    size: tuple[int, int],
    most: int,
) -> tuple[Use, int]:
    """One forward over sampled traces without gradients, and the number of such forwards.

    Args:
        rows: B, D, G.
        most: tokens of a forward, if one query's traces have no more.
    """
    num_images, num_dimensions, num_traces = rows
    numbers = []

    def measure(depth: int) -> Use:
        backbone = blueprint.build(dtype, lora, False, depth, train=lora is not None)
        backbone.network.eval()
        limit, question = backbone.prompt.max_trace_tokens, backbone.chat.questions[0]
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = _image(backbone, size)
            length = len(backbone.prefix(PROMPT, pixels)) + len(question) + limit
            whole = num_images * num_dimensions
            count = min(whole, max(1, most // (num_traces * length)))
            numbers.append(-(-whole // count))
            trace = _trace(backbone)
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
def scoring(
    blueprint: Blueprint,
    dtype: str,
    lora: LoraSettings | None,
    count: int,
    size: tuple[int, int],
) -> Use:
    """One batch of scores without reasoning."""

    def measure(depth: int) -> Use:
        backbone = blueprint.build(dtype, lora, False, depth, train=lora is not None)
        with FakeRun() as run:
            weights = plan_backbone.prepare(backbone, run)
            pixels = _image(backbone, size)
            start = run.live
            run.reset()
            student_scores(backbone, [PROMPT] * count, [pixels] * count)
            return Use(weights, activations=run.peak - start, operations=run.operations)

    return extrapolated(blueprint.num_layers, measure)


def _image(backbone: Backbone, size: tuple[int, int]) -> torch.Tensor:
    """An image of a size (width, height), resized for the model."""
    return torch.zeros(3, *backbone.pixels.size(size[1], size[0]))


def _trace(backbone: Backbone) -> list[int]:
    """A trace at the limit."""
    limit = backbone.prompt.max_trace_tokens
    return (backbone.chat.plain("word") * limit)[:limit]


def _sampled(backbone: Backbone, number: int) -> Rollouts:
    """Traces at the limit."""
    return Rollouts(
        [_trace(backbone)] * number,
        torch.ones(number, dtype=torch.bool),
        torch.zeros(number, len(backbone.levels)),
        torch.ones(number),
        torch.zeros(number, dtype=torch.long),
    )
