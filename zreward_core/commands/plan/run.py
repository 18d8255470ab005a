"""`zreward plan`: what each stage of a profile needs, before anything is bought or started.

Memory and operations are counted by running the stages' own code on fake tensors built from the
real configs (``memory``); hours follow from them and from stated rates.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from zreward_core.commands.plan.backbone import Blueprint, read_blueprint
from zreward_core.commands.plan.counts import count
from zreward_core.commands.plan.disk import merged_bytes
from zreward_core.commands.plan.generator import read_generator
from zreward_core.commands.plan.launch import launch_notes, read_engines, read_launchers
from zreward_core.commands.plan.remedies import mend, mend_host
from zreward_core.commands.plan.rows import Machine, Models, Row
from zreward_core.commands.plan.stages import PIPELINE, PLANNERS
from zreward_core.config import UserError
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.launch_settings import DEMO, launch_file_of, profile_file

READ = (
    *("base_vlm", "base_generator", "candidates", "annotate", "train_gdso", "train_risd"),
    "finetune_generator",
)
"""Stages whose params every plan reads."""
SECTIONS = {"gate": "promote"}
"""Sections of params.yaml that are not named like what they set."""
UNDIVIDED = ("trace_faithfulness",)
"""Stages that run in one process."""
COLUMNS = (
    *("stage", "GPUs", "phase", "weights", "adapters", "optimizer", "activations", "caches"),
    *("engine", "total", "fits", "host", "tokens", "files", "disk", "disk peak", "hours"),
)
LEGEND = "bold: the phase of a stage with the largest total, of one process; all sizes are in GB"


@dataclass(frozen=True)
class Plan:
    """The rows of a plan and the notes below its table."""

    rows: list[Row]
    notes: list[str]
    machine: Machine

    def fits(self, row: Row) -> bool:
        """Whether the stage fits on one of the GPUs, and on the machine if its memory is known."""
        return row.fits(self.machine) and row.fits_host(self.machine)


def make_plan(
    profile: str | None,
    machine: Machine,
    say: Callable[[str], None] = lambda _: None,
    stages: Sequence[str] = (),
) -> Plan:
    """Plan a profile of the project in the current folder.

    Args:
        profile: name of params/NAME.yaml; None or demo for params.yaml.
        say: receives the name of each stage before it is counted.
        stages: those to plan; the pipeline if there are none.

    Raises:
        UserError: params are invalid, a stage cannot be planned, or a base's config is not on this
            machine.
    """
    profile = None if profile == DEMO else profile
    if unknown := sorted(set(stages) - set(PLANNERS)):
        raise UserError(f"{unknown} cannot be planned; choose from {', '.join(PLANNERS)}")
    wanted = stages or tuple(PIPELINE)
    configs = read_configs(profile, dict.fromkeys((*READ, *wanted)))
    rubric = load_rubric()
    models, counts = read_models(configs, rubric), count(configs, rubric)
    launchers, engines = read_launchers(profile), read_engines(profile)
    limit = configs["base_vlm"].prompt.max_trace_tokens
    machine = replace(
        machine,
        trace_tokens=min(machine.trace_tokens, limit),
        launch_file=launch_file_of(profile),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for stage in wanted:
        say(stage)
        planner, launcher, engine = PLANNERS[stage], launchers.get(stage), engines.get(stage)
        processes = machine.gpus if launcher is not None else 1
        if launcher is not None and engine is not None:
            processes = min(processes, launcher.processes)  # the engine may have the other GPUs
        fsdp = launcher.settings.fsdp if launcher is not None else None
        here = replace(machine, engine=engine, machines=launcher.machines if launcher else 1)
        row = planner(configs[stage], processes, fsdp, models, counts, here)
        rows.append(row)
        if not row.fits(machine):
            how = mend(planner, configs[stage], row, fsdp, models, counts, here)
            notes.append(f"{stage} does not fit ({row.tightest(machine)[0]}): {how}")
        if not row.fits_host(machine):
            how = mend_host(planner, configs[stage], row, fsdp, models, counts, here)
            notes.append(f"{stage} needs {row.host / 1e9:,.0f} GB of host memory: {how}")
        if engine is not None and not engine.devices:
            notes.append(f"{stage}: the engine that it joins is not counted, and taken for one GPU")
        if launcher is None and stage not in UNDIVIDED and machine.gpus > 1:
            notes.append(f"{stage} uses one GPU: give it a launcher in {machine.launch_file}")
    notes += launch_notes(launchers, {row.stage: row.processes for row in rows}, configs)
    if machine.host_memory is None:
        most = max(rows, key=lambda row: row.host)
        notes.append(
            f"host memory: most in {most.stage}, {most.host / 1e9:,.0f} GB; compare it with the"
            " machine's, or give it by `--host-memory`"
        )
    people = f"people give {counts.judgements:,} ratings on {counts.images['annotation']:,} images"
    notes.append(f"{people}; {counts.images['unlabelled']:,} images are labelled by the teacher")
    if not stages:
        notes.append(disk_note(rows, sum(merged_bytes(models.student, configs["train_risd"]))))
    if counts.assumed:
        found = ", ".join(f"{number:,} {name}" for name, number in counts.prompts.items())
        notes.append(f"files that are not there: {', '.join(counts.assumed)}; assumed: {found}")
    if counts.not_counted:
        notes.append(f"images that are not counted: those of {', '.join(counts.not_counted)}")
    return Plan(rows, notes, machine)


def disk_note(rows: Sequence[Row], student: float) -> str:
    """What the stages leave on disk together, and what they need besides.

    Args:
        student: bytes of the trained student, which `champion` and `promote` copy.
    """
    kept = sum(row.disk for row in rows) + 2 * student
    most = max(rows, key=lambda row: row.peak - row.disk)
    return (
        f"on disk: {gigabytes(kept)} GB in all, with the student's copies in `champion` and in"
        f" MLflow ({gigabytes(student)} GB each), and {gigabytes(most.peak - most.disk)} GB more"
        f" while {most.stage} runs; DVC's cache and the bases are not counted"
    )


def read_configs(profile: str | None, names: Iterable[str]) -> dict[str, Any]:
    """Settings of stages and of the gate, by name."""
    overlay = None if profile is None else profile_file(profile)
    found = {}
    for name in names:
        room = "commands" if name in SECTIONS else "stages"
        module = importlib.import_module(f"zreward_core.{room}.{name}")
        found[name] = module.Config.load(SECTIONS.get(name, name), overlay)
    return found


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
    return Models(
        blueprint("teacher"),
        blueprint("student"),
        generator,
        configs["train_gdso"].base,
        configs["train_gdso"].lora,
        configs["train_risd"].lora,
    )


def table(plan: Plan) -> str:
    """The plan as a Markdown table with its notes; with a column for engines if there are any.

    A stage's name and what holds for the whole stage are in its first row; its largest total is
    bold.
    """
    beside = any(use.engine for row in plan.rows for use in row.moments.values())
    columns = [name for name in COLUMNS if beside or name != "engine"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in plan.rows:
        for number, (moment, use) in enumerate(row.moments.items()):
            first, total = number == 0, gigabytes(use.total)
            parts = [use.weights, use.adapters, use.optimizer, use.activations, use.caches]
            parts += [use.engine] if beside else []
            whole = [f"{row.host / 1e9:,.0f}", f"{row.tokens:,.0f}", f"{row.files:,}"]
            whole += [f"{size / 1e9:,.1f}" for size in (row.disk, row.peak)] + [f"{row.hours:,.1f}"]
            cells = [
                row.stage if first else "",
                str(row.processes) if first else "",
                moment,
                *map(gigabytes, parts),
                f"**{total}**" if moment == row.largest[0] else total,
                "" if not first else "yes" if plan.fits(row) else "**no**",
                *(whole if first else [""] * len(whole)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in (LEGEND, *plan.notes))])


def record(plan: Plan) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [asdict(row) | {"fits": plan.fits(row)} for row in plan.rows]


def gigabytes(size: float) -> str:
    """Bytes as GB."""
    return f"{size / 1e9:.1f}" if size >= 5e7 else "0"
