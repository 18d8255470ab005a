"""`zreward plan`: with which param a stage fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands.plan_models import LORA, MACHINE, RUBRIC, blueprint, configs
from tests.integration.random_models import save_generator
from zreward_core.commands.plan import remedies as plan_mend
from zreward_core.commands.plan import rows as plan_rows
from zreward_core.commands.plan import run as planning
from zreward_core.commands.plan import stages as plan_stages
from zreward_core.commands.plan.counts import count
from zreward_core.commands.plan.engine import Engine
from zreward_core.commands.plan.generator import read_generator
from zreward_core.commands.plan.remedies import remedies
from zreward_core.commands.plan.rows import Machine
from zreward_core.runtime.launch_settings import Fsdp
from zreward_core.stages import (
    candidates,
    finetune_generator,
    label,
    train_gdso,
    train_risd,
)

SHARDED = Fsdp(replicas=1)
OWN = Path("params/launch/mine.yaml")
"""The launch file of a profile, which remedies name."""


def test_an_engine_that_is_too_small_for_its_model_needs_more_memory_or_gpus() -> None:
    short, machine = labelled(Engine((7,), 0.02))
    assert short.tightest(machine)[0] == "engine" and not short.fits(machine)
    how = plan_mend.mend_engine(short, machine)
    assert how is not None and how.startswith(f"{OWN}: `--gpu-memory-utilization`")
    row, machine = labelled(Engine((7,), float(how.split("at least ")[1])))
    assert row.fits(machine)
    small = replace(machine, memory=short.moments["engine"].total)
    alone = replace(short, moments={"engine": short.moments["engine"]})
    assert f"{OWN}: a larger `--tensor-parallel-size`" in str(plan_mend.mend_engine(alone, small))


def test_an_engine_is_counted_on_its_gpu_and_on_that_of_a_process() -> None:
    alone, machine = labelled(Engine((7,), 0.92))
    own = alone.moments["engine"]
    assert set(alone.moments) == {"traces", "engine"} and alone.moments["traces"].engine == 0
    assert own.total == pytest.approx(0.92 * machine.memory) and alone.fits(machine)
    shared, machine = labelled(Engine((6,), 0.92))
    assert shared.moments["traces"].engine == pytest.approx(0.92 * machine.memory)
    assert not shared.fits(machine)
    how = plan_mend.mend_engine(shared, machine)
    assert (
        how is not None
        and how.startswith(f"{OWN}: ")
        and '`CUDA_VISIBLE_DEVICES: "6"`' in how
        and "6 processes" in how
    )
    share = float(how.split("at most ")[1])
    for more, expected in ((0, True), (0.02, False)):
        row, machine = labelled(Engine((6,), share + more))
        assert row.fits(machine) == expected


def labelled(engine: Engine | None) -> tuple[plan_rows.Row, Machine]:
    """The row of a small teacher that labels on a small GPU, by seven processes."""
    deep, machine = blueprint(4), replace(MACHINE, memory=20e6, engine=engine, launch_file=OWN)
    counts = replace(count(configs(), RUBRIC), size=(32, 32))
    models = plan_rows.Models(deep, deep, None)  # type: ignore[arg-type]
    config = label.Config(seed=1, num_traces=2, batch_size=1)
    return plan_stages.label(config, 7, None, models, counts, machine), machine


def test_a_stage_that_does_not_fit_names_the_params_with_which_it_fits() -> None:
    deep = blueprint(4)
    counts = replace(count(configs(), RUBRIC), size=(32, 32))
    models = plan_rows.Models(deep, deep, None)  # type: ignore[arg-type]
    planner = plan_stages.PLANNERS["train_gdso"]
    config = train_gdso.Config(
        seed=1, pairs_per_step=2, micro_batch_pairs=2, group_size=4, lora=LORA
    )
    row = planner(config, 1, SHARDED, models, counts, MACHINE)
    remedied = config.model_copy(update={"gradient_checkpointing": True, "micro_batch_pairs": 1})
    fitting = planner(remedied, 1, SHARDED, models, counts, MACHINE).largest[1].total
    recomputed = config.model_copy(update={"gradient_checkpointing": True})
    between = planner(recomputed, 1, SHARDED, models, counts, MACHINE).largest[1].total
    assert fitting < between < row.largest[1].total
    machine = replace(MACHINE, memory=(fitting + between) / 2 / plan_rows.HEADROOM)
    how = plan_mend.mend(planner, config, row, SHARDED, models, counts, machine)
    assert how.startswith(
        "`train_gdso.gradient_checkpointing: True`, `train_gdso.micro_batch_pairs: 1` ("
    )
    small = replace(MACHINE, memory=1e3)
    assert "no param of the stage" in plan_mend.mend(
        planner, remedied, row, SHARDED, models, counts, small
    )
    assert not planning.Plan([row], [], small).fits(row)


def test_inputs_sampled_together_set_the_memory_of_traces_and_their_time() -> None:
    deep = blueprint(4)
    counts = replace(count(configs(), RUBRIC), size=(32, 32))
    models = plan_rows.Models(deep, deep, None)  # type: ignore[arg-type]
    planner = plan_stages.PLANNERS["train_gdso"]
    whole = train_gdso.Config(seed=1, steps=10, pairs_per_step=4, micro_batch_pairs=1, lora=LORA)
    parts = whole.model_copy(update={"rollout_batch_size": 3})
    rows = [planner(config, 1, SHARDED, models, counts, MACHINE) for config in (whole, parts)]
    caches = [row.moments["decoding"].caches for row in rows]
    assert caches[1] == pytest.approx(caches[0] * 3 / 8, rel=0.02)
    assert rows[1].hours > 2 * rows[0].hours  # three loops instead of one
    remedies = list(plan_mend.remedies("train_gdso", whole, "decoding"))
    assert remedies[:3] == [{"rollout_batch_size": size} for size in (4, 2, 1)]


def test_a_smaller_batch_of_candidates_is_counted_again(tmp_path: Path) -> None:
    save_generator(tmp_path / "generator", "z_image", ["a word"])
    models = plan_rows.Models(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        read_generator(str(tmp_path / "generator"), None),
    )
    setting = {"path": "a", "steps": 1, "guidance": 1, "size": [64, 64], "annotation": 1}
    config = candidates.Config(seed=1, generators=[setting | {"batch_size": 4}])
    counts = count(configs() | {"candidates": config}, RUBRIC)

    def largest(batch_size: int) -> float:
        one = plan_mend.with_value(config, plan_mend.GENERATORS, batch_size)
        row = plan_stages.candidates(one, 1, None, models, counts, MACHINE)
        return row.largest[1].total

    row = plan_stages.candidates(config, 1, None, models, counts, MACHINE)
    room = (largest(1) + largest(2)) / 2
    small = replace(MACHINE, memory=room / plan_rows.HEADROOM)
    how = plan_mend.mend(plan_stages.candidates, config, row, None, models, counts, small)
    assert how.startswith("`candidates.generators.batch_size: 1` (")


@pytest.mark.parametrize("moment", ["update", "prefill", "decoding", "panel", "denoising"])
def test_remedies_never_change_the_number_of_items_in_a_step(moment: str) -> None:
    distilled = train_risd.Config(seed=1)
    changed = [name for change in remedies("train_risd", distilled, moment) for name in change]
    assert "batch_size" not in changed
    tuned = finetune_generator.Config(seed=1, batch_size=12, accumulation=2)
    for change in remedies("finetune_generator", tuned, moment):
        own = {"batch_size": 12, "accumulation": 2} | change
        assert own["batch_size"] * own["accumulation"] == 24


def test_a_tuning_step_that_does_not_fit_is_divided_before_anything_else_changes(
    tmp_path: Path,
) -> None:
    models, counts, config = tuned(tmp_path)

    def largest(**changes: Any) -> float:
        settings = type(config)(**config.model_dump() | changes)
        row = plan_stages.finetune_generator(settings, 1, None, models, counts, MACHINE)
        return row.moments["update"].total

    def remedied(changes: dict[str, Any]) -> str:
        room = largest(**changes) * 1.001 / plan_rows.HEADROOM
        inputs = models, counts, replace(MACHINE, memory=room)
        row = plan_stages.finetune_generator(config, 1, None, *inputs)
        assert row.tightest(inputs[2])[0] == "update" and not row.fits(inputs[2])
        return plan_mend.mend(plan_stages.finetune_generator, config, row, None, *inputs)

    single = {"batch_size": 1, "accumulation": 4}
    assert largest(**single) < largest(batch_size=2) < largest()
    expected = "`finetune_generator.batch_size: 2`, `finetune_generator.accumulation: 2` ("
    assert remedied({"batch_size": 2, "accumulation": 2}).startswith(expected)
    fewer = remedied(single | {"gradient_steps": 1})
    assert "`finetune_generator.batch_size: 1`" in fewer
    assert "`finetune_generator.gradient_steps: 1` (" in fewer
    small = remedied(single | {"gradient_steps": 1, "size": [32, 32]})
    assert "`finetune_generator.size: [32, 32]` (" in small
    nothing = plan_mend.elsewhere("finetune_generator", "update")
    assert "base_generator" in nothing and "max_trace_tokens" not in nothing


def tuned(folder: Path) -> tuple[plan_rows.Models, Any, Any]:
    """Tiny models, and the settings of a tuning step with all images at once."""
    save_generator(folder / "generator", "z_image", ["a word"])
    generator, deep = read_generator(str(folder / "generator"), None), blueprint(4)
    models = plan_rows.Models(deep, deep, generator)
    counts = replace(count(configs(), RUBRIC), prompts={"generator_eval": 1})
    config = finetune_generator.Config(
        seed=1,
        size=(64, 64),
        batch_size=4,
        accumulation=1,
        gradient_steps=2,
        sample_batch_size=1,
        panel_traces=1,
        lora=LORA,
        gradient_checkpointing=True,
        watch={"num_prompts": 1, "every": 1000},
    )
    return models, counts, config


def test_a_machine_with_too_little_memory_loses_the_panel_or_has_fewer_processes(
    tmp_path: Path,
) -> None:
    models, counts, config = tuned(tmp_path)
    config = config.model_copy(update={"batch_size": 1, "accumulation": 8})

    def remedied(planner: plan_rows.Planner, settings: Any, host: float) -> str:
        machine = replace(MACHINE, host_memory=host / plan_rows.HEADROOM, launch_file=OWN)
        row = planner(settings, 8, None, models, counts, machine)
        assert row.fits(machine) and not row.fits_host(machine)
        assert not planning.Plan([row], [], machine).fits(row)
        return plan_mend.mend_host(planner, settings, row, None, models, counts, machine)

    tuning, labelling = plan_stages.finetune_generator, plan_stages.label
    without = config.model_copy(update={"panel": False})
    hosts = [tuning(one, 8, None, models, counts, MACHINE).host for one in (config, without)]
    assert hosts[1] < hosts[0]
    assert remedied(tuning, config, hosts[1]).startswith("`finetune_generator.panel: False` (")
    both = remedied(tuning, config, 0.6 * hosts[1])
    assert both.startswith(f"`finetune_generator.panel: False`; {OWN}: 4 processes")
    settings = label.Config(seed=1, num_traces=2, batch_size=1)
    host = labelling(settings, 8, None, models, counts, MACHINE).host
    fewer = remedied(labelling, settings, 0.3 * host)
    assert fewer.startswith(f"{OWN}: 2 processes a machine for label (")
    assert "do not suffice" in remedied(labelling, settings, 1e3)
    assert labelling(settings, 8, None, models, counts, replace(MACHINE, machines=4)).host == (
        pytest.approx(host / 4)
    )


def test_a_model_that_is_sharded_in_replicas_is_offered_one() -> None:
    deep = blueprint(4)
    counts = replace(count(configs(), RUBRIC), size=(32, 32))
    models = plan_rows.Models(deep, deep, None)  # type: ignore[arg-type]
    planner = plan_stages.PLANNERS["train_risd"]
    config = train_risd.Config(seed=1, micro_batch_size=1, gradient_checkpointing=True)
    many = Fsdp(replicas=4)
    row, alone = (planner(config, 8, one, models, counts, MACHINE) for one in (many, SHARDED))
    machine = replace(MACHINE, memory=1.001 * alone.largest[1].total / plan_rows.HEADROOM)
    machine = replace(machine, launch_file=OWN)
    how = plan_mend.mend(planner, config, row, many, models, counts, machine)
    assert how.startswith(f"{OWN}: `fsdp.replicas: 1` for train_risd (")
