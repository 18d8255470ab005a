"""The stages that train a vision-language model, as rows of the plan.

Shapes: P pairs, G traces of a side, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from zreward_core.commands.plan import disk, memory
from zreward_core.commands.plan.backbone import Blueprint, gathered_bytes, whole_bytes
from zreward_core.commands.plan.counts import Counts
from zreward_core.commands.plan.host import IMAGE_BUFFERS, host_bytes
from zreward_core.commands.plan.rows import Machine, Models, Row, apart
from zreward_core.commands.plan.sampling import sample_traces
from zreward_core.commands.plan.use import Use, sharded
from zreward_core.runtime.launch_settings import Fsdp


@dataclass(frozen=True)
class Training:
    """A training stage on a machine."""

    stage: str
    config: Any
    processes: int
    fsdp: Fsdp | None
    """How it shards its model; None if each process has a copy."""
    blueprint: Blueprint
    """Of the base that is trained."""
    counts: Counts
    machine: Machine
    update: Use
    """Of a process without sharding."""
    on_policy: bool
    """Whether it samples traces, and keeps a copy of the weights as the reference policy."""
    beside: Use = field(default_factory=Use)
    """Another model on the GPU, sharded too."""

    @property
    def part(self) -> Use:
        """The update of a process."""
        found = self.update
        if self.fsdp is not None:
            gathered = gathered_bytes(
                self.blueprint, self.config.dtype, self.fsdp.reshard_after_forward
            )
            found = sharded(found, on_gpu(self.fsdp, self.processes), gathered)
        found = replace(found, weights=found.weights + self.beside.weights)
        engine = self.machine.engine
        if engine is not None:
            found = engine.beside(found, self.machine.on_one(self.processes), self.machine.memory)
        return found

    def holding(self, use: Use) -> Use:
        """A use of the whole model between updates, with what a process holds for these."""
        share = on_gpu(self.fsdp, self.processes)
        copies = self.update.optimizer + (self.update.adapters if self.on_policy else 0)
        shards = self.update.weights + self.update.adapters if self.fsdp is not None else 0
        return replace(
            use,
            weights=use.weights + shards * share + self.beside.weights,
            optimizer=copies * share,
        )

    def traces(self, inputs: int) -> tuple[dict[str, Use], float]:
        """Moments and seconds of the policy's outputs of a process's inputs in a step."""
        together = inputs
        if self.config.rollout_batch_size is not None and self.machine.engine is None:
            together = min(inputs, self.config.rollout_batch_size)
        moments, seconds = self.sampled((together, 1, self.config.group_size))
        return moments, ceil(inputs / together) * seconds

    def sampled(self, rows: tuple[int, int, int]) -> tuple[dict[str, Use], float]:
        """Moments and seconds of traces of the policy that are sampled together."""
        moments, seconds = sample_traces(
            self.blueprint,
            self.config.dtype,
            self.config.lora,
            rows,
            self.update.adapters,
            self.processes,
            self.counts,
            self.machine,
        )
        held = {n: use if n == "engine" else self.holding(use) for n, use in moments.items()}
        return held, seconds

    def validation(self) -> tuple[dict[str, Use], float]:
        """Moments and seconds of all validations during training."""
        config, counts = self.config, self.counts
        if not getattr(config, "validate_every", 0):
            return {}, 0.0
        batch = min(config.validation_batch_size, config.validation_items)
        images = min(config.validation_items, counts.validation_images)
        batches = ceil(ceil(images / batch) / self.processes)
        if self.on_policy:
            moments, seconds = self.sampled((batch, counts.num_dimensions, 1))
            moments.pop("engine", None)
            largest = max(moments.values(), key=lambda use: use.total)
        else:
            use = memory.scoring(self.blueprint, config.dtype, config.lora, batch, counts.size)
            largest, seconds = self.holding(use), use.operations / self.machine.flops
        return {"validation": largest}, config.steps // config.validate_every * batches * seconds

    def row(
        self,
        seconds: float,
        moments: dict[str, Use] | None = None,
        tokens: float = 0,
        **more: float,
    ) -> Row:
        """The row.

        Args:
            seconds: of the steps.
            moments: besides the update and validation.
            tokens: generated for the steps.
            more: ``each``, bytes of a process on the host while it loads; ``disk`` and ``files``
                besides the model.
        """
        validation, validated = self.validation()
        written = disk.trained_model(
            self.blueprint, self.config, self.update, copies=1 if self.on_policy else 0
        )
        base = whole_bytes(self.blueprint, self.config.dtype)
        each = max(IMAGE_BUFFERS, more.get("each", 0))
        if self.fsdp is not None and self.fsdp.cpu_offload:
            held = self.update.weights + self.update.adapters + self.update.optimizer
            each += held / num_shards(self.fsdp, self.processes)
        return Row(
            self.stage,
            self.processes,
            {**(moments or {}), "update": self.part, **validation},
            tokens,
            written.files + int(more.get("files", 0)),
            written.disk + more.get("disk", 0),
            written.peak + 2 * more.get("disk", 0),
            host_bytes(self.machine.on_one(self.processes), each, base + written.disk),
            (seconds + validated) / 3600,
        )


def pairs_planner(stage: str) -> Callable[..., Row]:
    """The planner of a stage that trains a policy on annotated pairs."""

    def planner(
        config: Any,
        processes: int,
        fsdp: Fsdp | None,
        models: Models,
        counts: Counts,
        machine: Machine,
    ) -> Row:
        blueprint = models.base(config.base)
        update = memory.pairs_update(stage, blueprint, config, counts.size)
        training = Training(
            stage, config, processes, fsdp, blueprint, counts, machine, update, True
        )
        moments, seconds = training.traces(ceil(2 * config.pairs_per_step / processes))
        micro = ceil(config.pairs_per_step / processes / config.micro_batch_pairs)
        seconds += config.updates_per_batch * micro * update.operations / machine.flops
        tokens = config.steps * 2 * config.pairs_per_step * config.group_size
        return training.row(config.steps * seconds, moments, tokens * machine.trace_tokens)

    return planner


def one_token_planner(stage: str) -> Callable[..., Row]:
    """The planner of a stage that trains a scorer that does not reason."""

    def planner(
        config: Any,
        processes: int,
        fsdp: Fsdp | None,
        models: Models,
        counts: Counts,
        machine: Machine,
    ) -> Row:
        blueprint = models.base(getattr(config, "base", "student"))
        update = memory.risd_update(blueprint, config, counts.size)
        micro = ceil(config.batch_size / processes / config.micro_batch_size)
        seconds = config.steps * micro * update.operations / machine.flops
        return Training(
            stage, config, processes, fsdp, blueprint, counts, machine, update, False
        ).row(seconds)

    return planner


def train_opd(
    config: Any, processes: int, fsdp: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rollouts of the student, and updates by the teacher's reading of them."""
    part = config.micro_batch_images, 1, config.group_size
    update = memory.opd_update(models.student, config, counts.size)
    lora = apart(models.teacher_lora, config.dtype)
    read, _ = memory.traces(models.judge, config.dtype, lora, part, counts.size, ALL)
    # The teacher reads while the student's graph is held. Its own peak comes before the student's
    # in the backward pass, so the sum of both is a bound.
    activations = read.activations
    if fsdp is not None:
        activations += gathered_bytes(models.judge, config.dtype, fsdp.reshard_after_forward)
    update = replace(
        update,
        activations=update.activations + activations,
        operations=update.operations + read.operations,
    )
    beside = Use(weights=read.weights * on_gpu(fsdp, processes))
    training = Training(
        *("train_opd", config, processes, fsdp, models.student, counts, machine, update, True),
        beside,
    )
    images = ceil(config.images_per_step / processes)
    moments, seconds = training.traces(images)
    micro = ceil(images / config.micro_batch_images)
    seconds += config.updates_per_batch * micro * update.operations / machine.flops
    tokens = config.steps * config.images_per_step * config.group_size * machine.trace_tokens
    return training.row(config.steps * seconds, moments, tokens, each=read.weights)


def train_rewarddance(
    config: Any, processes: int, fsdp: Fsdp | None, models: Models, counts: Counts, machine: Machine
) -> Row:
    """Rationales of the teacher's base, then updates on them."""
    blueprint = models.base(config.base)
    update = memory.chain_update(blueprint, config, counts.size)
    training = Training(
        *("train_rewarddance", config, processes, fsdp, blueprint, counts, machine, update),
        on_policy=False,
    )
    items = counts.training_images * counts.num_dimensions
    rows = min(config.shard_items, items), 1, config.num_chains
    moments, seconds = sample_traces(
        models.teacher, config.dtype, None, rows, 0, processes, counts, machine
    )
    read, _ = memory.traces(models.teacher, config.dtype, None, rows, counts.size, ALL)
    moments["traces"] = max(read, moments.get("traces", read), key=lambda use: use.total)
    seconds += read.operations / machine.flops
    seconds *= ceil(items / rows[0] / processes)
    micro = ceil(config.batch_size / processes / config.micro_batch_size)
    seconds += config.steps * micro * update.operations / machine.flops
    tokens = items * config.num_chains * machine.trace_tokens
    size = items * (disk.TEXT_BYTES * machine.trace_tokens + disk.ROW_BYTES)
    return training.row(seconds, moments, tokens, disk=size, files=1)


def num_shards(fsdp: Fsdp, processes: int) -> int:
    """Processes over which a model is sharded: those of a replica."""
    return max(1, processes // fsdp.replicas)


def on_gpu(fsdp: Fsdp | None, processes: int) -> float:
    """Share of weights and optimizer state that a process keeps on its GPU."""
    if fsdp is None:
        return 1.0
    return 0.0 if fsdp.cpu_offload else 1 / num_shards(fsdp, processes)


ALL = 2**62
"""Tokens of a forward over traces that is not divided."""
