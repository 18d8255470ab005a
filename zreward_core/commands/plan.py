"""`zreward plan`: what each stage of a profile needs, before anything is bought or started.

Memory and operations are counted by running the stages' own code on fake tensors built from the
real configs (``plan_memory``); hours follow from them and from stated rates.
"""

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import Any

from zreward_core.commands.plan_backbone import Blueprint, read_blueprint
from zreward_core.commands.plan_counts import Counts, count
from zreward_core.commands.plan_engine import UTILIZATION, Engine, engine_of
from zreward_core.commands.plan_generator import read_generator
from zreward_core.commands.plan_stages import (
    HEADROOM,
    PLANNERS,
    Machine,
    Models,
    Planner,
    Row,
    remedies,
)
from zreward_core.config import UserError, parse_settings, read_yaml
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.launch_settings import LAUNCH_FILE, LOCAL, Accelerate, LaunchFile, Ray

READ = ("base_vlm", "base_generator", "annotate", *PLANNERS)
"""Stages whose params the plan reads."""
COLUMNS = (
    *("stage", "GPUs", "at", "weights", "adapters", "optimizer", "activations", "caches"),
    *("engine", "in all", "fits", "tokens", "files", "disk", "hours"),
)


@dataclass(frozen=True)
class Plan:
    """The rows of a plan and the notes below its table."""

    rows: list[Row]
    notes: list[str]
    machine: Machine

    def fits(self, row: Row) -> bool:
        """Whether the stage fits on one of the GPUs."""
        return fits(row, self.machine)


def fits(row: Row, machine: Machine) -> bool:
    """Whether a stage fits on a GPU, to a byte: an engine takes all that it may."""
    return machine.room(row.tightest(machine)[1]) > -1


def make_plan(
    profile: str | None, machine: Machine, say: Callable[[str], None] = lambda _: None
) -> Plan:
    """Plan a profile of the project in the current folder.

    Args:
        profile: name of params/NAME.yaml, or None for params.yaml.
        say: receives the name of each stage before it is counted.

    Raises:
        UserError: params are invalid, or a base's config is not on this machine.
    """
    overlay = Path("params") / f"{profile}.yaml" if profile else None
    configs = {
        name: importlib.import_module(f"zreward_core.stages.{name}").Config.load(name, overlay)
        for name in READ
    }
    rubric = load_rubric()
    models, counts = read_models(configs, rubric), count(configs, rubric)
    launchers, engines = read_launchers(profile), read_engines(profile)
    limit = configs["base_vlm"].prompt.max_trace_tokens
    machine = replace(machine, trace_tokens=min(machine.trace_tokens, limit))
    rows: list[Row] = []
    notes: list[str] = []
    for stage, planner in PLANNERS.items():
        say(stage)
        launcher, engine = launchers.get(stage), engines.get(stage)
        processes = machine.gpus if launcher is not None else 1
        if launcher is not None and engine is not None:
            processes = min(processes, launcher.processes)  # the engine may have the other GPUs
        sharding = launcher is not None and launcher.fsdp is not None
        here = replace(machine, engine=engine)
        row = planner(configs[stage], processes, sharding, models, counts, here)
        rows.append(row)
        if not fits(row, machine):
            how = mend(planner, configs[stage], row, sharding, models, counts, here)
            notes.append(f"{stage} does not fit ({row.tightest(machine)[0]}): {how}")
        if engine is not None and not engine.devices:
            notes.append(f"{stage}: the engine that it joins is not counted, and taken for one GPU")
        if launcher is None and stage != "evaluate_gsb" and machine.gpus > 1:
            notes.append(f"{stage} uses one GPU: give it a launcher in launch.yaml")
    people = f"people give {counts.judgements:,} ratings on {counts.images['annotation']:,} images"
    notes.append(f"{people}; {counts.images['unlabelled']:,} images are labelled by the teacher")
    if counts.assumed:
        found = ", ".join(f"{number:,} {name}" for name, number in counts.prompts.items())
        notes.append(f"files that are not there: {', '.join(counts.assumed)}; assumed: {found}")
    return Plan(rows, notes, machine)


def mend(
    planner: Planner,
    config: Any,
    row: Row,
    sharding: bool,
    models: Models,
    counts: Counts,
    machine: Machine,
) -> str:
    """Text on the change of params with which a stage fits."""
    stage, moment = row.stage, row.tightest(machine)[0]
    if machine.engine is not None:
        how = mend_engine(row, machine)
        if how is not None:
            return how
    if moment == "update" and stage.startswith("train_") and not sharding and machine.gpus > 1:
        row = planner(config, row.processes, True, models, counts, machine)
        if fits(row, machine):
            return f"launch.yaml: a launcher with `fsdp: {{}}` for {stage}"
    if stage == "candidates":
        return "lower `candidates.generators.batch_size`"
    changed: dict[str, Any] = {}
    for name, value in remedies(stage, config, moment):
        changed[name] = value
        config = type(config)(**config.model_dump() | {name: value})
        row = planner(config, row.processes, sharding, models, counts, machine)
        if fits(row, machine):
            keys = ", ".join(f"`{stage}.{key}: {new}`" for key, new in changed.items())
            return f"{keys} ({gigabytes(row.largest[1].total)} GB)"
    return (
        "no param of the stage alone mends it: lower `base_vlm.prompt.max_trace_tokens` or"
        " `max_pixels`, or take a smaller base"
    )


def mend_engine(row: Row, machine: Machine) -> str | None:
    """Text on the change of launch.yaml with which an engine fits; None if it is not at fault."""
    moment, use = row.tightest(machine)
    own = row.moments.get("engine")
    if own is None or not (moment == "engine" or machine.room(use) + use.engine > 0):
        return None
    needed = own.weights + own.adapters
    if moment == "engine":
        if own.total > HEADROOM * machine.memory:
            return "launch.yaml: a larger `--tensor-parallel-size` of its engine, with more GPUs"
        return (
            f"launch.yaml: `--{UTILIZATION}` of its engine at least"
            f" {ceil(100 * own.total / machine.memory) / 100:.2f}"
        )
    last = row.processes - 1
    how = (
        f'launch.yaml: a GPU for the engine alone (`CUDA_VISIBLE_DEVICES: "{last}"` in its'
        f" environment, {last} processes in the launcher)"
    )
    share = floor(100 * (machine.room(use) + use.engine) / machine.memory) / 100
    if share * machine.memory > needed:
        how += f", or its `--{UTILIZATION}` at most {share:.2f}"
    return how


def read_models(configs: dict[str, Any], rubric: Rubric) -> Models:
    """Blueprints of the bases in a profile.

    Raises:
        UserError: a base is tiny, or its config is not on this machine.
    """

    def blueprint(role: str) -> Blueprint:
        base = getattr(configs["base_vlm"], role)
        prompt: PromptSettings = configs["base_vlm"].prompt
        source = base.hub_id or base.path
        if source is None:
            raise UserError(f"base_vlm.{role} is pretrained here; plans are for checkpoints")
        return read_blueprint(str(source), base.revision or "main", base.max_pixels, rubric, prompt)

    base = configs["base_generator"]
    source = base.hub_id or base.path
    if source is None:
        raise UserError("base_generator is pretrained here; plans are for checkpoints")
    generator = read_generator(str(source), base.revision)
    return Models(blueprint("teacher"), blueprint("student"), generator)


def read_launchers(profile: str | None) -> dict[str, Accelerate]:
    """Launcher of several processes of each stage that has one."""
    content, found = launch_file(profile), {}
    for stage, name in content.stages.items():
        launcher = content.launchers.get(name)
        if isinstance(launcher, Ray) and launcher.inside != LOCAL:
            launcher = content.launchers.get(launcher.inside)
        if isinstance(launcher, Accelerate):
            found[stage] = launcher
    return found


def read_engines(profile: str | None) -> dict[str, Engine]:
    """Rollout engine of each stage that has one."""
    content = launch_file(profile)
    return {
        stage: engine_of(content.engines[name])
        for stage, name in content.rollouts.items()
        if name in content.engines
    }


def launch_file(profile: str | None) -> LaunchFile:
    """Content of the launch.yaml of a profile."""
    own = Path("params/launch") / f"{profile}.yaml"
    path = own if profile and own.is_file() else LAUNCH_FILE
    return (
        parse_settings(LaunchFile, read_yaml(path), str(path)) if path.is_file() else LaunchFile()
    )


def table(plan: Plan) -> str:
    """The plan as a Markdown table with its notes; with a column for engines if there are any."""
    beside = any(use.engine for row in plan.rows for use in row.moments.values())
    columns = [name for name in COLUMNS if beside or name != "engine"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in plan.rows:
        for moment, use in row.moments.items():
            largest = moment == row.largest[0]
            parts = [use.weights, use.adapters, use.optimizer, use.activations, use.caches]
            parts += [use.engine] if beside else []
            whole = (f"{row.tokens:,.0f}", f"{row.files:,}", f"{row.disk / 1e9:,.1f}")
            cells = [
                row.stage if largest else "",
                str(row.processes) if largest else "",
                moment,
                *map(gigabytes, parts),
                gigabytes(use.total),
                "" if not largest else "yes" if plan.fits(row) else "**no**",
                *(whole if largest else ("", "", "")),
                f"{row.hours:,.1f}" if largest else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in plan.notes)])


def record(plan: Plan) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [asdict(row) | {"fits": plan.fits(row)} for row in plan.rows]


def gigabytes(size: float) -> str:
    """Bytes as GB."""
    return f"{size / 1e9:.1f}" if size >= 5e7 else "0"
