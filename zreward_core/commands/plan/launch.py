"""The launchers of a profile: how a stage's processes share machines and a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from zreward_core.commands.plan.engine import Engine, engine_of
from zreward_core.config import parse_settings, read_yaml
from zreward_core.runtime.launch_settings import LOCAL, Accelerate, LaunchFile, Ray, launch_file_of

DIVIDED = ("pairs_per_step", "images_per_step", "batch_size")
"""Settings of which a step's items are divided over processes."""


@dataclass(frozen=True)
class Launched:
    """The launcher of several processes that a stage has."""

    path: Path
    """Launch file of the profile."""
    name: str
    settings: Accelerate
    machines: int
    """Machines, or nodes of Ray, on each of which its processes are started."""

    @property
    def processes(self) -> int:
        """Processes on all machines."""
        return self.settings.processes * self.machines


def read_launchers(profile: str | None) -> dict[str, Launched]:
    """Launcher of several processes of each stage that has one."""
    path = launch_file_of(profile)
    content, found = launch_file(path), {}
    for stage, name in content.stages.items():
        launcher, nodes = content.launchers.get(name), 1
        if isinstance(launcher, Ray) and launcher.inside != LOCAL:
            nodes, name = launcher.nodes, launcher.inside
            launcher = content.launchers.get(name)
        if isinstance(launcher, Accelerate):
            found[stage] = Launched(path, name, launcher, launcher.machines * nodes)
    return found


def read_engines(profile: str | None) -> dict[str, Engine]:
    """Rollout engine of each stage that has one."""
    path = launch_file_of(profile)
    content = launch_file(path)
    return {
        stage: engine_of(content.engines[name], path)
        for stage, name in content.rollouts.items()
        if name in content.engines
    }


def launch_file(path: Path) -> LaunchFile:
    """Content of a launch file, which need not exist."""
    return (
        parse_settings(LaunchFile, read_yaml(path), str(path)) if path.is_file() else LaunchFile()
    )


def launch_notes(
    launchers: Mapping[str, Launched], planned: Mapping[str, int], configs: Mapping[str, Any]
) -> list[str]:
    """How the launchers differ from what is planned, and what they would refuse.

    Args:
        launchers: by stage.
        planned: processes of each stage.
        configs: of each stage.
    """
    stages: dict[tuple[str, int, int], list[str]] = {}
    for stage, number in planned.items():
        if stage in launchers:
            key = launchers[stage].name, launchers[stage].machines, number
            stages.setdefault(key, []).append(stage)
    notes: list[str] = []
    for (_, _, number), names in stages.items():
        launched = launchers[names[0]]
        notes += _notes(launched, number, names)
        if launched.settings.fsdp is not None:
            notes += [
                f"{stage}: with `fsdp` and {number} processes, `{stage}.{key}`"
                f" ({getattr(configs[stage], key)}) must be a multiple of {number}"
                for stage in names
                for key in DIVIDED
                if getattr(configs[stage], key, number) % number
            ]
    return notes


def _notes(launched: Launched, number: int, stages: list[str]) -> list[str]:
    """Notes on one launcher and the stages with a number of processes that use it."""
    notes, listed = [], ", ".join(stages)
    where = f"`launchers.{launched.name}"
    settings, machines = launched.settings, launched.machines
    if settings.cpu:
        notes.append(f"{launched.path}: {where}.cpu` is true: {listed} would run on CPUs")
    if launched.processes != number:
        how = f"{ceil(number / machines)}"
        if number > settings.processes and number % settings.processes == 0:
            how += f", or start it on {number // settings.processes} machines (`machines`, or"
            how += " `nodes` of a ray launcher)"
        notes.append(
            f"{launched.path}: the plan counts {number} processes for {listed}, the launcher starts"
            f" {launched.processes}: set {where}.processes` to {how}"
        )
    if machines > 1:
        notes.append(
            f"host memory of {listed} is that of one of {machines} machines, with"
            f" {ceil(number / machines)} of the {number} processes"
        )
    replicas = 1 if settings.fsdp is None else settings.fsdp.replicas
    if replicas > 1 and (number % replicas or number == replicas):
        notes.append(
            f"{launched.path}: {where}.fsdp.replicas` is {replicas}: the {number} processes must be"
            " a multiple of it, and more"
        )
    return notes
