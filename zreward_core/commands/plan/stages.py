"""The stages that judge or generate images, as rows of the plan; and the planner of each stage."""

from dataclasses import replace
from math import ceil
from typing import Any

from zreward_core.commands.plan import disk, memory, training, tuning
from zreward_core.commands.plan.backbone import whole_bytes
from zreward_core.commands.plan.counts import Counts
from zreward_core.commands.plan.host import host_bytes, pixel_bytes
from zreward_core.commands.plan.rows import Machine, Models, Planner, Row, apart
from zreward_core.commands.plan.sampling import (
    image_seconds,
    judge_images,
    rollout_seconds,
    sample_traces,
    score_batch,
    score_images,
)
from zreward_core.commands.plan.use import Use
from zreward_core.images.shards import HELD_BYTES
from zreward_core.runtime.launch_settings import Fsdp
from zreward_core.training.judges import PIXELS_AT_A_TIME

PANEL_BATCH = 32
"""Images that the panel judges at a time, at most; fewer of many pixels."""
POOL_ITEMS = 1000
"""Images of the pool that evaluate scores for the viewer."""
SAMPLE_PIXELS = 2**27
"""Pixels of the images in a shard of samples."""
READINGS = 4
"""Traces under which trace_faithfulness scores an image."""


def candidates(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Samples of the generators, each counted as the base generator."""
    moments: dict[str, Use] = {}
    seconds = each = 0.0
    for one in config.generators:
        step, decoding = tuning.sampling(
            models.generator, one.dtype, one.batch_size, one.guidance, one.size
        )
        number = sum(
            counts.prompts[purpose] * getattr(one, purpose)
            for purpose in ("annotation", "unlabelled")
        )
        seconds += number * image_seconds(step, decoding, one.steps, one.batch_size, machine)
        for name, use in (("denoising", step), ("decoding", decoding)):
            moments[name] = max(use, moments.get(name, use), key=lambda one: one.total)
        each = max(each, step.weights)
    each += 2 * 3 * SAMPLE_PIXELS  # a shard, in parts and joined
    images = counts.stored_images
    size = images * counts.image_bytes + sum(counts.images.values()) * disk.ROW_BYTES
    return Row(
        "candidates",
        processes,
        moments or {"no generator": Use()},
        files=disk.image_shards(images, counts.image_bytes) + 5,
        disk=size,
        peak=size + images * counts.image_bytes,  # in shards of the checkpoint until the end
        host=host_bytes(machine.on_one(processes), each),
        hours=seconds / processes / 3600,
    )


def label(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """The teacher's rollouts on the pool."""
    images = min(counts.images["unlabelled"], config.max_items or counts.images["unlabelled"])
    moments, tokens, seconds = judge_images(config, images, processes, models, counts, machine)
    rows = images * counts.num_dimensions
    size = (disk.TEXT_BYTES + disk.ID_BYTES) * tokens
    size += rows * (1 + config.num_traces) * disk.ROW_BYTES
    return Row(
        "label",
        processes,
        moments,
        tokens,
        files=ceil(images / config.shard_items) + 2,
        disk=size,
        peak=size,  # the traces are linked from the checkpoint
        host=host_bytes(
            machine.on_one(processes), whole_bytes(models.judge, config.dtype) + HELD_BYTES
        ),
        hours=seconds / processes / 3600,
    )


def evaluate(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rollouts of the teacher and of its base, scores of the student and of its base."""
    images = counts.test_images
    moments, tokens, seconds = judge_images(config, images, processes, models, counts, machine)
    pool = min(POOL_ITEMS, counts.images["unlabelled"])
    scored = score_images(config.dtype, 2 * images + pool, models, counts, machine)
    moments["scores"] = scored[0]
    size = 2 * disk.TEXT_BYTES * tokens / config.num_traces  # one trace of each is kept
    size += (4 * images + pool) * counts.num_dimensions * disk.ROW_BYTES
    return Row(
        "evaluate",
        processes,
        moments,
        2 * tokens,
        files=11,
        disk=size,
        peak=2 * size,
        host=host_bytes(
            machine.on_one(processes), whole_bytes(models.judge, config.dtype) + HELD_BYTES
        ),
        hours=(2 * seconds + scored[1]) / processes / 3600,
    )


def predict(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Predictions of one model: the trained teacher if it reasons, else the student."""
    number = {"test": counts.test_images, "validation": counts.validation_images}
    images = sum(number[split] for split in config.judged_splits)
    model = models.judge if config.reasoning else models.student
    tokens = 0.0
    if config.reasoning:
        moments, tokens, seconds = judge_images(config, images, processes, models, counts, machine)
    else:
        use, seconds = score_images(config.dtype, images, models, counts, machine)
        moments = {"scores": use}
    size = disk.TEXT_BYTES * tokens / config.num_traces
    size += images * counts.num_dimensions * disk.ROW_BYTES
    return Row(
        "predict",
        processes,
        moments,
        tokens,
        files=2,
        disk=size,
        peak=2 * size,
        host=host_bytes(machine.on_one(processes), whole_bytes(model, config.dtype) + HELD_BYTES),
        hours=seconds / processes / 3600,
    )


def gate(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Scores of the test items by the candidate and by the champion, for `promote`."""
    use, seconds = score_images(config.dtype, 2 * counts.test_images, models, counts, machine)
    size = 2.0 * counts.test_images * counts.num_dimensions * disk.ROW_BYTES
    return Row(
        "gate",
        processes,
        {"scores": use},
        files=2,
        disk=size,
        peak=2 * size,
        host=host_bytes(
            machine.on_one(processes), whole_bytes(models.student, config.dtype) + HELD_BYTES
        ),
        hours=seconds / processes / 3600,
    )


def trace_faithfulness(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rollouts on both images of pairs, and their scores under several traces; one process."""
    lora, dtype = apart(models.teacher_lora, config.dtype), config.dtype
    rows = 2 * config.batch_pairs, 1, 1
    moments, seconds = sample_traces(models.judge, dtype, lora, rows, 0, 1, counts, machine)
    rows = (rows[0], 1, READINGS)
    read, _times = memory.traces(models.judge, dtype, lora, rows, counts.size, training.ALL)
    seconds += read.operations / machine.flops
    moments["readings"] = read
    size = 2.0 * config.num_pairs * disk.ROW_BYTES
    return Row(
        "trace_faithfulness",
        1,
        moments,
        2.0 * config.num_pairs * machine.trace_tokens,
        files=3,
        disk=size,
        peak=size,
        host=host_bytes(1, whole_bytes(models.judge, dtype) + HELD_BYTES),
        hours=ceil(config.num_pairs / config.batch_pairs) * seconds / 3600,
    )


def finetune_generator(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Updates of the generator, and validation with the panel on the GPU."""
    own = ceil(config.batch_size * config.accumulation / processes)
    count = min(config.batch_size, own)  # images of one process are adjacent in the batches
    lora = apart(models.student_lora, config.dtype)
    one_batch = config.model_copy(update={"batch_size": count, "accumulation": 1})
    update = tuning.tuning(models.generator, models.student, lora, one_batch, count)
    step, decoding = tuning.sampling(
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
    validations = ceil(config.steps / config.watch.every) + 1
    watched = ceil(config.watch.num_prompts / processes)
    held_out = counts.prompts["generator_eval"]
    compared = ceil(held_out / processes)
    judged = validations * watched + 2 * compared
    batch = min(score_batch(models.student, config.size), max(watched, compared))
    scores = memory.scoring(models.student, config.dtype, lora, batch, config.size)
    seconds += judged / batch * scores.operations / machine.flops
    encoders = disk.encoder_bytes(models.generator, config.dtype)
    painter = step.weights - encoders
    held = {"adapters": update.adapters, "optimizer": update.optimizer}
    moments = {
        "update": update,
        "denoising": replace(step, weights=step.weights + scores.weights, **held),
        "decoding": replace(decoding, weights=decoding.weights + scores.weights, **held),
        "scores": replace(scores, weights=painter + scores.weights, **held),
    }
    one = image_seconds(step, decoding, config.num_steps, config.sample_batch_size, machine)
    seconds += judged * one
    tokens = parked = 0.0
    if config.panel:
        at_a_time = max(1, PIXELS_AT_A_TIME // (config.size[0] * config.size[1]))
        rows = (
            min(PANEL_BATCH, at_a_time, max(watched, compared)),
            counts.num_dimensions,
            config.panel_traces,
        )
        prefill, last, steps = memory.rollouts(
            models.judge, config.dtype, apart(models.teacher_lora, config.dtype), rows, config.size
        )
        largest = max(prefill, last, key=lambda use: use.total)
        moments["panel"] = replace(largest, optimizer=update.optimizer)  # models are off the GPU
        batches = validations * ceil(watched / rows[0]) + 2 * ceil(compared / rows[0])
        seconds += batches * rollout_seconds(prefill, last, steps, models.judge, machine)
        tokens = judged * processes * rows[1] * rows[2] * machine.trace_tokens
        parked = largest.weights + painter + scores.weights + update.adapters
    samples = 2 * held_out
    written = disk.tuned_generator(
        models.generator, config, update, samples * counts.bytes_of(config.size)
    )
    each = encoders + parked + pixel_bytes(config.watch.num_prompts, config.size)
    transformer, _rest = disk.generator_bytes(models.generator, config)
    return Row(
        "finetune_generator",
        processes,
        moments,
        tokens,
        written.files,
        written.disk,
        written.peak,
        host_bytes(machine.on_one(processes), each, transformer),
        seconds / 3600,
    )


def evaluate_gsb(
    config: Any, processes: int, _: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Samples of both generators."""
    step, decoding = tuning.sampling(
        models.generator, config.dtype, config.batch_size, config.guidance_scale, config.size
    )
    images = 2 * counts.prompts["generator_eval"] * config.samples
    one = image_seconds(step, decoding, config.num_steps, config.batch_size, machine)
    size = images * counts.bytes_of(config.size)
    return Row(
        "evaluate_gsb",
        processes,
        {"denoising": step, "decoding": decoding},
        0,
        disk.image_shards(images, counts.bytes_of(config.size)) + 5,
        size,
        3 * size,  # the samples, and each generator's images in shards of the checkpoint
        host_bytes(
            machine.on_one(processes), step.weights + pixel_bytes(config.batch_size, config.size)
        ),
        images * one / processes / 3600,
    )


PIPELINE: dict[str, Planner] = {
    "candidates": candidates,
    "train_gdso": training.pairs_planner("train_gdso"),
    "label": label,
    "train_risd": training.one_token_planner("train_risd"),
    "evaluate": evaluate,
    "gate": gate,
    "finetune_generator": finetune_generator,
    "evaluate_gsb": evaluate_gsb,
}
"""Stage of the pipeline that computes with models, to the function that plans it."""
METHODS: dict[str, Planner] = {
    "train_gdso_coupled": training.pairs_planner("train_gdso_coupled"),
    "train_grpo": training.pairs_planner("train_grpo"),
    "train_opd": training.train_opd,
    "train_sft": training.one_token_planner("train_sft"),
    "train_rewarddance": training.train_rewarddance,
    "predict": predict,
    "trace_faithfulness": trace_faithfulness,
}
"""The other stages; they are planned on request."""
PLANNERS = PIPELINE | METHODS
