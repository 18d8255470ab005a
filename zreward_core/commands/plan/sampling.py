"""Moments and seconds of what several stages do: sample traces, judge images, draw images."""

import math
from typing import Any

from zreward_core.commands.plan import memory
from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.counts import Counts
from zreward_core.commands.plan.rows import Machine, Models, apart
from zreward_core.commands.plan.use import Use
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.engine import FORWARD_TOKENS
from zreward_core.models.scorer import BATCH_SIZE, images_of_pass

LAUNCH_SECONDS = 1e-3
"""Of a layer in a decoding step: Python and kernel launches; 62 ms were measured at 64 layers."""


def sample_traces(
    blueprint: Blueprint,
    dtype: str,
    lora: LoraSettings | None,
    rows: tuple[int, int, int],
    adapters: float,
    processes: int,
    counts: Counts,
    machine: Machine,
) -> tuple[dict[str, Use], float]:
    """Moments and seconds of one batch of traces, sampled by the process or by an engine.

    Args:
        rows: images, dimensions, traces of each process.
        adapters: bytes of a policy's adapter.
    """
    prefill, decoding, steps = memory.rollouts(blueprint, dtype, lora, rows, counts.size)
    engine = machine.engine
    if engine is None:
        seconds = rollout_seconds(prefill, decoding, steps, blueprint, machine)
        return {"prefill": prefill, "decoding": decoding}, seconds
    read, times = memory.traces(blueprint, dtype, lora, rows, counts.size, FORWARD_TOKENS)
    moments = {"traces": engine.beside(read, machine.on_one(processes), machine.memory)}
    if engine.devices:
        cache = decoding.caches / math.prod(rows)
        moments["engine"] = engine.own(decoding.weights, adapters, cache, machine.memory)
    # the engine has the batches of all processes at once, and replays graphs: nothing is launched;
    # it takes questions of unequal length as they are
    gpus = max(1, len(engine.devices))
    step = max(
        (decoding.weights + processes * decoding.caches) / machine.bandwidth,
        processes * decoding.operations / machine.flops,
    )
    sampled = processes * prefill.operations / machine.flops
    sampled += blueprint.prompt.max_trace_tokens * step
    return moments, sampled / gpus + times * read.operations / machine.flops


def rollout_seconds(
    prefill: Use, decoding: Use, steps: int, blueprint: Blueprint, machine: Machine
) -> float:
    """Of one batch: its prefill, and its decoding steps as if the longest trace met the limit."""
    step = max(
        (decoding.weights + decoding.caches) / machine.bandwidth,
        decoding.operations / machine.flops,
        LAUNCH_SECONDS * blueprint.num_layers,
    )
    return prefill.operations / machine.flops + steps * step


def judge_images(
    config: Any, images: int, processes: int, models: Models, counts: Counts, machine: Machine
) -> tuple[dict[str, Use], float, float]:
    """Moments, tokens and seconds of one process for the trained teacher's judgement of images."""
    rows = config.batch_size, counts.num_dimensions, config.num_traces
    lora = apart(models.teacher_lora, config.dtype)
    moments, seconds = sample_traces(
        models.judge, config.dtype, lora, rows, 0, processes, counts, machine
    )
    tokens = float(images * rows[1] * rows[2] * machine.trace_tokens)
    return moments, tokens, images / config.batch_size * seconds


def score_images(
    dtype: str, images: float, models: Models, counts: Counts, machine: Machine
) -> tuple[Use, float]:
    """Use and seconds of one process for the trained student's scores of images."""
    lora = apart(models.student_lora, dtype)
    batch = score_batch(models.student, counts.size)
    use = memory.scoring(models.student, dtype, lora, batch, counts.size)
    return use, images / batch * use.operations / machine.flops


def score_batch(student: Blueprint, size: tuple[int, int]) -> int:
    """Images of a size (width, height) that a student scores in a forward pass."""
    height, width = student.pixels.size(size[1], size[0])
    return images_of_pass(height * width, BATCH_SIZE)


def image_seconds(step: Use, decoding: Use, steps: int, batch_size: int, machine: Machine) -> float:
    """Of one generated image."""
    return (steps * step.operations + decoding.operations) / batch_size / machine.flops
