"""`zreward plan`: what is counted of each stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.plan_models import LORA, MACHINE, ROOT, RUBRIC, blueprint, configs
from tests.integration.test_real_profiles import make_project
from zreward_core import cli
from zreward_core.commands.plan import rows as plan_rows
from zreward_core.commands.plan import run as planning
from zreward_core.commands.plan import stages as plan_stages
from zreward_core.commands.plan import training as plan_training
from zreward_core.commands.plan.backbone import Blueprint, weight_bytes
from zreward_core.commands.plan.counts import ASSUMED, count
from zreward_core.commands.plan.engine import Engine, engine_of
from zreward_core.commands.plan.launch import launch_notes, read_engines, read_launchers
from zreward_core.config import UserError, merge, read_yaml
from zreward_core.runtime.engine_settings import Vllm
from zreward_core.runtime.launch_settings import Fsdp
from zreward_core.stages import train_grpo, train_opd

ENGINE = {"kind": "vllm", "python": "/opt/python"}


def distilled(
    fsdp: Fsdp | None, processes: int = 2, **settings: Any
) -> tuple[plan_rows.Row, Blueprint]:
    """The row of train_opd with tiny models on two GPUs."""
    deep = blueprint(4)
    images = {"annotation": 100, "unlabelled": 0}
    counts = replace(count(configs(), RUBRIC), size=(32, 32), images=images)
    models = plan_rows.Models(deep, deep, None)  # type: ignore[arg-type]
    config = train_opd.Config(
        seed=1,
        steps=2,
        images_per_step=4,
        group_size=2,
        micro_batch_images=2,
        lora=LORA,
        **settings,
    )
    return plan_training.train_opd(config, processes, fsdp, models, counts, MACHINE), deep


def test_the_teacher_of_opd_is_on_the_gpu_beside_the_student_or_sharded() -> None:
    row, deep = distilled(None)
    whole = sum(weight_bytes(deep.build("float32", None, False)))
    assert row.moments["update"].weights == pytest.approx(2 * whole, rel=0.01)
    assert row.moments["prefill"].weights == pytest.approx(2 * whole, rel=0.05)
    divided, _ = distilled(Fsdp(replicas=1))
    assert divided.moments["update"].weights == pytest.approx(whole, rel=0.01)
    gathered = divided.moments["decoding"].weights  # whole beside its shard and the teacher's
    assert gathered == pytest.approx(2 * whole, rel=0.05)
    assert divided.moments["update"].activations > row.moments["update"].activations


def test_a_shard_is_that_of_a_replica_and_may_be_on_the_host() -> None:
    one, eight = Fsdp(replicas=1), Fsdp(replicas=8)
    found = {name: distilled(fsdp, 16)[0] for name, fsdp in (("one", one), ("eight", eight))}
    for part in ("weights", "adapters", "optimizer"):
        whole, copies = (getattr(row.moments["update"], part) for row in found.values())
        assert copies == pytest.approx(8 * whole) and whole > 0
    offloaded, _ = distilled(one.model_copy(update={"cpu_offload": True}), 16)
    update = offloaded.moments["update"]
    assert update.weights == update.adapters == update.optimizer == 0
    assert offloaded.host > found["one"].host
    kept, _ = distilled(one.model_copy(update={"reshard_after_forward": False}), 16)
    assert kept.moments["update"].activations > found["one"].moments["update"].activations


def test_launchers_that_differ_from_the_plan_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fsdp = {"kind": "accelerate", "processes": 8, "fsdp": {"replicas": 8}}
    launchers = {
        "cpus": {"kind": "accelerate", "processes": 2, "cpu": True},
        "sharded": fsdp,
        "nodes": {"kind": "ray", "nodes": 8, "inside": "sharded"},
    }
    stages = {"label": "cpus", "evaluate": "cpus", "train_opd": "sharded", "train_grpo": "nodes"}
    Path("launch.yaml").write_text(yaml.safe_dump({"launchers": launchers, "stages": stages}))
    settings = {
        "label": None,
        "evaluate": None,
        "train_opd": train_opd.Config(seed=1, images_per_step=32),
        "train_grpo": train_grpo.Config(seed=1, pairs_per_step=64),
    }

    def notes(**planned: int) -> str:
        return "\n".join(launch_notes(read_launchers(None), planned, settings))

    found = notes(label=2, evaluate=2)
    assert found == "launch.yaml: `launchers.cpus.cpu` is true: label, evaluate would run on CPUs"
    found = notes(label=8, evaluate=8)
    assert "counts 8 processes for label, evaluate, the launcher starts 2" in found
    assert "set `launchers.cpus.processes` to 8, or start it on 4 machines" in found
    found = notes(train_opd=8)
    assert "`launchers.sharded.fsdp.replicas` is 8: the 8 processes must be a multiple" in found
    assert "must be a multiple of 8" not in found
    found = notes(train_opd=64)
    assert "`train_opd.images_per_step` (32) must be a multiple of 64" in found
    found = notes(train_grpo=64)
    assert (
        found
        == "host memory of train_grpo is that of one of 8 machines, with 8 of the 64 processes"
    )


def test_validation_is_counted_in_memory_and_hours() -> None:
    without, _ = distilled(None)
    row, _ = distilled(None, validate_every=1, validation_batch_size=8)
    assert "validation" not in without.moments
    for moment in ("prefill", "decoding"):
        assert row.moments["validation"].total > row.moments[moment].total
    assert row.moments["update"] == without.moments["update"]
    assert row.hours > without.hours


def test_every_stage_with_a_model_has_a_planner() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    on_gpu = {name for name, stage in stages.items() if stage["meta"]["gpu"]}
    bases = {"base_vlm", "base_generator"}  # checkpoints are only opened
    assert on_gpu - bases == set(plan_stages.PIPELINE) - {"gate"}
    assert set(cli.STAGES) - set(stages) == set(plan_stages.METHODS)
    with pytest.raises(UserError, match=r"\['train_all'\] cannot be planned"):
        planning.make_plan("paper", MACHINE, stages=["train_all"])


def test_launchers_are_those_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_launchers("paper") == {}
    for folder, processes in (("params/launch/paper.yaml", 8), ("launch.yaml", 2)):
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        launchers = {"some": {"kind": "accelerate", "processes": processes}}
        content = {"launchers": launchers, "stages": {"label": "some", "evaluate": "local"}}
        content["engines"] = {"vllm": ENGINE | {"environment": {"CUDA_VISIBLE_DEVICES": "7"}}}
        content["rollouts"] = {"label": "vllm", "evaluate": "local"}
        Path(folder).write_text(yaml.safe_dump(content))
    assert read_launchers("paper")["label"].processes == 8
    assert read_launchers("other")["label"].processes == 2
    assert "evaluate" not in read_launchers(None)
    assert read_engines("paper") == {"label": Engine((7,), 0.92)}


def test_notes_name_the_launch_file_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make_project(tmp_path / "project", "paper")
    monkeypatch.chdir(tmp_path / "project")
    file, own = Path("params/paper.yaml"), Path("params/launch/paper.yaml")
    file.write_text(yaml.safe_dump(merge(read_yaml(file), models)))
    made = planning.make_plan("paper", MACHINE, stages=["label"])
    assert f"label uses one GPU: give it a launcher in {own}" in made.notes
    own.write_text("launchers: {one: {kind: accelerate, processes: 8}}\nstages: {label: one}\n")
    made = planning.make_plan("paper", replace(MACHINE, host_memory=10e9), stages=["label"])
    (note,) = [note for note in made.notes if note.startswith("label needs")]
    assert f": {own}: " in note


def test_a_plan_of_the_demo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="pretrained here"):
        planning.make_plan("smoke", MACHINE)


def test_prompts_are_counted_or_assumed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    found = count(configs(annotation=[tmp_path / "a.txt"], unlabelled=[tmp_path / "b"]), RUBRIC)
    assert found.images == {"annotation": 8, "unlabelled": 2 * ASSUMED["unlabelled"]}
    assert found.prompts["generator_eval"] == 0 and found.assumed == (str(tmp_path / "b"),)
    assert found.judgements == round(8 * (0.8 * 1 + 0.1 * 2 + 0.1 * 5) * 4)
    assert found.size == (1024, 768)


@pytest.mark.parametrize(
    ("settings", "devices", "share"),
    [
        ({"url": "http://host:1", "python": None}, (), 0),
        ({}, (0,), 0.92),
        ({"arguments": ["--gpu-memory-utilization", "0.4"]}, (0,), 0.4),
        (
            {
                "arguments": ["--gpu_memory_utilization=0.5", "--tensor-parallel-size=2"],
                "environment": {"CUDA_VISIBLE_DEVICES": "6,7,1"},
            },
            (6, 7),
            0.5,
        ),
    ],
)
def test_what_an_engine_reserves_is_read_from_its_arguments(
    settings: dict[str, Any], devices: tuple[int, ...], share: float
) -> None:
    path = Path("params/launch/mine.yaml")
    assert engine_of(Vllm(**ENGINE | settings), path) == Engine(devices, share)
    with pytest.raises(UserError, match=r"mine\.yaml: .*utilization is 'half', not a number"):
        engine_of(Vllm(**ENGINE, arguments=["--gpu-memory-utilization", "half"]), path)
