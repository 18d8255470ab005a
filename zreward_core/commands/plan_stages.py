"""The stages that use a GPU, as rows of the plan: memory at each moment, tokens, disk, hours."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from zreward_core.commands import plan_memory as memory
from zreward_core.commands.plan_backbone import Blueprint, weight_bytes
from zreward_core.commands.plan_counts import BYTES_PER_TOKEN, Counts, shards
from zreward_core.commands.plan_engine import Engine
from zreward_core.commands.plan_generator import GeneratorBlueprint
from zreward_core.commands.plan_use import Use, sharded
from zreward_core.models.backbone import LoraSettings

LAUNCH_SECONDS = 1e-3
"""Of a layer in a decoding step: Python and kernel launches; 62 ms were measured at 64 layers."""
PANEL_BATCH = 32
"""Images that the panel judges at a time."""
SCORE_BATCH = 64
"""Images that a student scores at a time."""
HEADROOM = 0.92
"""Share of a GPU's memory that a stage may use; the rest is the context and fragmentation."""
SHARD_BYTES = 5e9
"""Of a file of weights."""


@dataclass(frozen=True)
class Machine:
    """What is available, with stated rates."""

    gpus: int
    memory: float
    """Bytes of a GPU."""
    flops: float
    """Sustained operations per second of a GPU in bfloat16."""
    bandwidth: float
    """Sustained bytes per second of a GPU's memory."""
    trace_tokens: int
    """Mean tokens of a trace."""
    engine: Engine | None = None
    """What samples the traces of the stage, in place of its processes."""

    def room(self, use: Use) -> float:
        """Bytes left over by a use; negative if it does not fit."""
        return (use.available or HEADROOM * self.memory) - use.total


@dataclass(frozen=True)
class Models:
    """Blueprints of the bases."""

    teacher: Blueprint
    student: Blueprint
    generator: GeneratorBlueprint


@dataclass(frozen=True)
class Row:
    """One stage."""

    stage: str
    processes: int = 1
    moments: Mapping[str, Use] = field(default_factory=dict)
    """What one process holds, by what it does."""
    tokens: float = 0
    """Generated tokens."""
    files: int = 1
    disk: float = 0
    """Bytes written, without DVC's cache, which shares them where the file system can link."""
    hours: float = 0

    @property
    def largest(self) -> tuple[str, Use]:
        """The moment with the most memory, and its use."""
        return max(self.moments.items(), key=lambda item: item[1].total)

    def tightest(self, machine: Machine) -> tuple[str, Use]:
        """The moment with the least room on a GPU, and its use."""
        return min(self.moments.items(), key=lambda item: machine.room(item[1]))


Planner = Callable[[Any, int, bool, Models, Counts, Machine], Row]
"""Config of the stage, its processes, whether it shards its model, ... -> its row."""


def candidates(
    config: Any, processes: int, _: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Samples of the generators, each counted as the base generator."""
    moments: dict[str, Use] = {}
    seconds = 0.0
    for one in config.generators:
        step, decoding = memory.sampling(
            models.generator, one.dtype, one.batch_size, one.guidance, one.size
        )
        number = sum(
            counts.prompts[purpose] * getattr(one, purpose)
            for purpose in ("annotation", "unlabelled")
        )
        seconds += number * _sampling_seconds(step, decoding, one.steps, one.batch_size, machine)
        for name, use in (("denoising", step), ("decoding", decoding)):
            moments[name] = max(use, moments.get(name, use), key=lambda one: one.total)
    images = sum(counts.images.values())
    disk = images * counts.image_bytes
    hours = seconds / processes / 3600
    return Row("candidates", processes, moments, 0, shards(images) + 3, disk, hours)


def train_gdso(
    config: Any, processes: int, sharding: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rollouts on whole weights, then the update."""
    blueprint = models.teacher if config.base == "teacher" else models.student
    images = ceil(2 * config.pairs_per_step / processes)
    update = memory.gdso_update(blueprint, config, counts.size)
    rows = images, 1, config.group_size
    moments, seconds = _sampling(
        blueprint, config, config.lora, rows, update.adapters, processes, counts, machine
    )
    micro = ceil(config.pairs_per_step / processes / config.micro_batch_pairs)
    seconds += config.updates_per_batch * micro * update.operations / machine.flops
    if sharding:
        update = sharded(update, processes, blueprint.num_layers)
    if machine.engine is not None:
        update = machine.engine.beside(update, processes, machine.memory)
    moments["update"] = update
    tokens = config.steps * 2 * config.pairs_per_step * config.group_size * machine.trace_tokens
    disk, files = _model_files(blueprint, update)
    return Row("train_gdso", processes, moments, tokens, files, disk, config.steps * seconds / 3600)


def label(
    config: Any, processes: int, _: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """The teacher's rollouts on the pool."""
    images = min(counts.images["unlabelled"], config.max_items or counts.images["unlabelled"])
    moments, tokens, seconds = _judging(config, images, processes, models, counts, machine)
    disk, hours = BYTES_PER_TOKEN * tokens / config.num_traces, seconds / processes / 3600
    return Row("label", processes, moments, tokens, 1, disk, hours)


def train_risd(
    config: Any, processes: int, sharding: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Supervised updates of the student."""
    update = memory.risd_update(models.student, config, counts.size)
    micro = ceil(config.batch_size / processes / config.micro_batch_size)
    seconds = config.steps * micro * update.operations / machine.flops
    update = sharded(update, processes, models.student.num_layers) if sharding else update
    disk, files = _model_files(models.student, update)
    return Row("train_risd", processes, {"update": update}, 0, files, disk, seconds / 3600)


def evaluate(
    config: Any, processes: int, _: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rollouts of the teacher and of its base, scores of the student and of its base."""
    moments, tokens, seconds = _judging(
        config, counts.test_images, processes, models, counts, machine
    )
    scores = memory.scoring(models.student, config.dtype, SCORE_BATCH, counts.size)
    moments["scores"] = scores
    hours = 2 * seconds / processes / 3600
    hours += 2 * counts.test_images / SCORE_BATCH * scores.operations / machine.flops / 3600
    return Row("evaluate", processes, moments, 2 * tokens, 8, BYTES_PER_TOKEN * tokens, hours)


def finetune_generator(
    config: Any, processes: int, _: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Updates of the generator, and validation with the panel on the GPU."""
    own = ceil(config.batch_size * config.accumulation / processes)
    count = min(config.batch_size, own)  # images of one process are adjacent in the batches
    update = memory.tuning(models.generator, models.student, config, count)
    step, decoding = memory.sampling(
        models.generator,
        config.dtype,
        config.sample_batch_size,
        config.guidance_scale,
        config.size,
    )
    skipped = (config.num_steps - config.gradient_steps) * step.operations
    seconds = ceil(own / count) * update.operations / machine.flops
    seconds += own * skipped / config.sample_batch_size / machine.flops
    seconds *= config.steps
    student = float(sum(weight_bytes(models.student.build(config.dtype, None, False))))
    held = {"adapters": update.adapters, "optimizer": update.optimizer}
    moments = {
        "update": update,
        "denoising": replace(step, weights=step.weights + student, **held),
        "decoding": replace(decoding, weights=decoding.weights + student, **held),
    }
    validations = config.steps // config.watch.every + 1
    watched = ceil(config.watch.num_prompts / processes)
    compared = 2 * ceil(counts.prompts["generator_eval"] / processes)
    one = _sampling_seconds(step, decoding, config.num_steps, config.sample_batch_size, machine)
    seconds += (validations * watched + compared) * one
    tokens = 0.0
    if config.panel:
        rows = min(PANEL_BATCH, watched), counts.num_dimensions, config.panel_traces
        prefill, last = memory.rollouts(models.teacher, config.dtype, None, rows, config.size)
        largest = max(prefill, last, key=lambda use: use.total)
        moments["panel"] = replace(largest, optimizer=update.optimizer)  # models are off the GPU
        judged = validations * watched + compared
        seconds += judged / rows[0] * _rollout_seconds(prefill, last, models.teacher, machine)
        tokens = judged * processes * rows[1] * rows[2] * machine.trace_tokens
    weights = update.weights + update.adapters
    files = ceil(weights / SHARD_BYTES) + 6
    return Row("finetune_generator", processes, moments, tokens, files, weights, seconds / 3600)


def evaluate_gsb(
    config: Any, _: int, __: bool, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Samples of both generators, in one process."""
    step, decoding = memory.sampling(
        models.generator, config.dtype, config.batch_size, config.guidance_scale, config.size
    )
    images = 2 * counts.prompts["generator_eval"] * config.samples
    seconds = images * _sampling_seconds(
        step, decoding, config.num_steps, config.batch_size, machine
    )
    moments = {"denoising": step, "decoding": decoding}
    disk = images * counts.image_bytes
    return Row("evaluate_gsb", 1, moments, 0, shards(images) + 3, disk, seconds / 3600)


PLANNERS: dict[str, Planner] = {
    "candidates": candidates,
    "train_gdso": train_gdso,
    "label": label,
    "train_risd": train_risd,
    "evaluate": evaluate,
    "finetune_generator": finetune_generator,
    "evaluate_gsb": evaluate_gsb,
}
"""Stage to the function that plans it."""


def remedies(stage: str, config: Any, moment: str) -> Iterator[tuple[str, Any]]:
    """Changes of a stage's params that lower the memory of a moment, one after another."""
    if moment == "update":
        if not config.gradient_checkpointing:
            yield "gradient_checkpointing", True
        if config.lora is None:
            yield "lora", {"rank": 64, "alpha": 128}
    if moment == "panel":
        yield "panel", False
    names = {
        "update": ("micro_batch_pairs", "micro_batch_size", "batch_size", "group_size"),
        "decoding": ("batch_size", "sample_batch_size", "pairs_per_step", "num_traces"),
        "prefill": ("batch_size", "pairs_per_step"),
        "panel": (),
        "scores": (),
        "denoising": ("sample_batch_size", "batch_size"),
        "traces": ("batch_size", "num_traces"),
    }[moment]
    for name in names:
        value = getattr(config, name, 1)
        if stage in ("train_risd", "finetune_generator") and name == "batch_size":
            continue  # would change what is trained
        while value > (2 if name == "group_size" else 1):
            value //= 2
            yield name, value


def _judging(
    config: Any, images: int, processes: int, models: Models, counts: Counts, machine: Machine
) -> tuple[dict[str, Use], float, float]:
    """Moments, tokens and seconds of one process for the teacher's judgement of images."""
    rows = config.batch_size, counts.num_dimensions, config.num_traces
    moments, seconds = _sampling(models.teacher, config, None, rows, 0, processes, counts, machine)
    tokens = float(images * rows[1] * rows[2] * machine.trace_tokens)
    return moments, tokens, images / config.batch_size * seconds


def _sampling(
    blueprint: Blueprint,
    config: Any,
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
    prefill, decoding = memory.rollouts(blueprint, config.dtype, lora, rows, counts.size)
    engine = machine.engine
    if engine is None:
        seconds = _rollout_seconds(prefill, decoding, blueprint, machine)
        return {"prefill": prefill, "decoding": decoding}, seconds
    read, times = memory.traces(blueprint, config.dtype, lora, rows, counts.size)
    moments = {"traces": engine.beside(read, processes, machine.memory)}
    if engine.devices:
        cache = decoding.caches / math.prod(rows)
        moments["engine"] = engine.own(decoding.weights, adapters, cache, machine.memory)
    # the engine has the batches of all processes at once, and replays graphs: nothing is launched
    gpus = max(1, len(engine.devices))
    step = max(
        (decoding.weights + processes * decoding.caches) / machine.bandwidth,
        processes * decoding.operations / machine.flops,
    )
    sampled = processes * prefill.operations / machine.flops
    sampled += blueprint.prompt.max_trace_tokens * step
    return moments, sampled / gpus + times * read.operations / machine.flops


def _rollout_seconds(prefill: Use, decoding: Use, blueprint: Blueprint, machine: Machine) -> float:
    """Of one batch: its prefill, and a decoding step for each token of the longest trace."""
    step = max(
        (decoding.weights + decoding.caches) / machine.bandwidth,
        decoding.operations / machine.flops,
        LAUNCH_SECONDS * blueprint.num_layers,
    )
    return prefill.operations / machine.flops + blueprint.prompt.max_trace_tokens * step


def _sampling_seconds(
    step: Use, decoding: Use, steps: int, batch_size: int, machine: Machine
) -> float:
    """Of one image."""
    return (steps * step.operations + decoding.operations) / batch_size / machine.flops


def _model_files(blueprint: Blueprint, update: Use) -> tuple[float, int]:
    """Bytes and files of a trained model and of its checkpoint while it is trained."""
    weights = sum(weight_bytes(blueprint.build("bfloat16", None, False)))
    return weights + 2 * (update.adapters + update.optimizer), ceil(weights / SHARD_BYTES) + 6
