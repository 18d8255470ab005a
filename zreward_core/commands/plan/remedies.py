"""What makes a stage fit that does not: a change of params or the launch file, counted again."""

from collections.abc import Iterator
from math import ceil, floor
from typing import Any

from zreward_core.commands.plan.counts import Counts
from zreward_core.commands.plan.engine import UTILIZATION
from zreward_core.commands.plan.rows import HEADROOM, Machine, Models, Planner, Row
from zreward_core.runtime.launch_settings import Fsdp

GENERATORS = "generators.batch_size"
ROLLOUTS = "rollout_batch_size"
SMALLER = {
    "update": ("micro_batch_pairs", "micro_batch_size", "micro_batch_images", "group_size"),
    "decoding": (
        *(GENERATORS, ROLLOUTS, "batch_size", "sample_batch_size", "shard_items"),
        *("batch_pairs", "num_traces", "num_chains"),
    ),
    "prefill": (ROLLOUTS, "batch_size", "shard_items", "batch_pairs"),
    "traces": ("batch_size", "num_traces", "shard_items", "num_chains"),
    "denoising": (GENERATORS, "sample_batch_size", "batch_size"),
    "validation": ("validation_batch_size",),
    "readings": ("batch_pairs",),
}
"""Settings that lower the memory of a moment, in the order in which they are tried."""
SIZES = (0.75, 0.5)
"""Shares of an image's sides that are tried."""
SIDE = 32
"""Pixels of which the sides are a multiple."""
ONE_TOKEN = ("train_risd", "train_sft", "gate")
"""Stages in which no model reasons."""
TRAINED_BATCH = ("train_risd", "train_sft", "train_rewarddance", "finetune_generator")
"""Stages whose batch_size is the number of items in a step: another one trains another model."""


def mend(
    planner: Planner,
    config: Any,
    row: Row,
    fsdp: Fsdp | None,
    models: Models,
    counts: Counts,
    machine: Machine,
) -> str:
    """Text on the change with which a stage fits; every change has been counted."""
    stage = row.stage
    if machine.engine is not None:
        how = mend_engine(row, machine)
        if how is not None:
            return how
    if stage.startswith("train_") and row.processes > 1:
        for other, how in shardings(fsdp):
            found = planner(config, row.processes, other, models, counts, machine)
            if found.fits(machine):
                used = f"{found.largest[1].total / 1e9:.1f} GB"
                return f"{machine.launch_file}: {how} for {stage} ({used})"
    changed: dict[str, Any] = {}
    tried: set[str] = set()
    while (moment := row.tightest(machine)[0]) not in tried:
        tried.add(moment)
        for change in remedies(stage, config, moment):
            changed |= change
            for name, value in change.items():
                config = with_value(config, name, value)
            row = planner(config, row.processes, fsdp, models, counts, machine)
            if row.fits(machine):
                keys = ", ".join(f"`{stage}.{key}: {new}`" for key, new in changed.items())
                return f"{keys} ({row.largest[1].total / 1e9:.1f} GB)"
            if row.tightest(machine)[0] != moment:
                break
    return f"no param of the stage alone mends it: try {elsewhere(stage, moment)}"


def shardings(fsdp: Fsdp | None) -> Iterator[tuple[Fsdp, str]]:
    """Other ways to shard a model that take less memory, and what the launch file needs."""
    if fsdp is None:
        yield Fsdp(replicas=1), "a launcher with `fsdp: {}`"
        return
    if not fsdp.reshard_after_forward:
        fsdp = fsdp.model_copy(update={"reshard_after_forward": True})
        yield fsdp, "`fsdp.reshard_after_forward: true`"
    if fsdp.replicas > 1:
        yield fsdp.model_copy(update={"replicas": 1}), "`fsdp.replicas: 1`"


def elsewhere(stage: str, moment: str) -> str:
    """What outside a stage's own params lowers its memory."""
    if stage == "finetune_generator" and moment != "panel":
        return "a smaller `base_generator` or student, or a lower `base_vlm.student.max_pixels`"
    if stage in ("candidates", "evaluate_gsb"):
        return "a smaller `base_generator`"
    if moment == "scores" or stage in ONE_TOKEN:
        return "a lower `max_pixels` of its model in `base_vlm`, or a smaller base"
    return "a lower `base_vlm.prompt.max_trace_tokens` or `max_pixels`, or a smaller base"


def mend_host(
    planner: Planner,
    config: Any,
    row: Row,
    fsdp: Fsdp | None,
    models: Models,
    counts: Counts,
    machine: Machine,
) -> str:
    """Text on the change with which the memory of a machine suffices; it has been counted."""
    inputs = fsdp, models, counts, machine
    if getattr(config, "panel", False):
        config = with_value(config, "panel", False)
        found = planner(config, row.processes, *inputs)
        if found.fits_host(machine):
            return f"`{row.stage}.panel: False` ({found.host / 1e9:,.0f} GB)"
    number = row.processes
    while number // 2 >= machine.machines:
        number //= 2
        found = planner(config, number, *inputs)
        if found.fits_host(machine) and found.fits(machine):
            how = f"{machine.launch_file}: {machine.on_one(number)} processes a machine for"
            how += f" {row.stage} ({found.host / 1e9:,.0f} GB)"
            without = getattr(config, "panel", True)
            return how if without else f"`{row.stage}.panel: False`; {how}"
    return "fewer processes do not suffice: try a smaller base, or a machine with more memory"


def remedies(stage: str, config: Any, moment: str) -> Iterator[dict[str, Any]]:
    """Changes of a stage's params that lower the memory of a moment, one after another."""
    if moment == "update":
        if not config.gradient_checkpointing:
            yield {"gradient_checkpointing": True}
        if stage == "finetune_generator":
            yield from _smaller_batches(config)
        if config.lora is None:
            yield {"lora": {"rank": 64, "alpha": 128}}
        if stage == "finetune_generator":
            yield from _smaller_tuning(config)
            return
    if moment == "panel":
        yield {"panel": False}
    for name in SMALLER.get(moment, ()):
        if name == "batch_size" and stage in TRAINED_BATCH:
            continue
        if name == GENERATORS:
            value = max((one.batch_size for one in getattr(config, "generators", [])), default=1)
        elif name == ROLLOUTS and getattr(config, name, 1) is None:
            value = 2 * getattr(config, "pairs_per_step", 0) or config.images_per_step
        else:
            value = getattr(config, name, 1)
        while value > (2 if name == "group_size" else 1):
            value //= 2
            yield {name: value}


def _smaller_batches(config: Any) -> Iterator[dict[str, Any]]:
    """Fewer images at a time of the same step; an odd batch is divided into single images."""
    size, batches = config.batch_size, config.accumulation
    while size > 1:
        factor = 2 if size % 2 == 0 else size
        size, batches = size // factor, batches * factor
        yield {"batch_size": size, "accumulation": batches}


def _smaller_tuning(config: Any) -> Iterator[dict[str, Any]]:
    """Fewer denoising steps with gradients, then smaller images."""
    for number in range(config.gradient_steps - 1, 0, -1):
        yield {"gradient_steps": number}
    for share in SIZES:
        size = [int(side * share) // SIDE * SIDE for side in config.size]
        if min(size) > 0:
            yield {"size": size}


def with_value(config: Any, name: str, value: Any) -> Any:
    """A config with another value of a setting."""
    content = config.model_dump()
    if name == GENERATORS:
        for one in content["generators"]:
            one["batch_size"] = min(one["batch_size"], value)
    else:
        content[name] = value
    return type(config)(**content)


def mend_engine(row: Row, machine: Machine) -> str | None:
    """Text on the change of an engine's settings with which it fits; None if it is not at fault."""
    moment, use = row.tightest(machine)
    own = row.moments.get("engine")
    if own is None or not (moment == "engine" or machine.room(use) + use.engine > 0):
        return None
    needed = own.weights + own.adapters
    if moment == "engine":
        if own.total > HEADROOM * machine.memory:
            return (
                f"{machine.launch_file}: a larger `--tensor-parallel-size` of its engine, with more"
                " GPUs"
            )
        return (
            f"{machine.launch_file}: `--{UTILIZATION}` of its engine at least"
            f" {ceil(100 * own.total / machine.memory) / 100:.2f}"
        )
    last = row.processes - 1
    how = (
        f"{machine.launch_file}: a GPU for the engine alone"
        f' (`CUDA_VISIBLE_DEVICES: "{last}"` in its'
        f" environment, {last} processes in the launcher)"
    )
    share = floor(100 * (machine.room(use) + use.engine) / machine.memory) / 100
    if share * machine.memory > needed:
        how += f", or its `--{UTILIZATION}` at most {share:.2f}"
    return how
