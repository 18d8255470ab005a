"""`zreward plan`: counted on fake tensors, extrapolated over layers, with the param that mends."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.integration.random_models import save_generator
from tests.tiny_models import PROMPT, build_family
from zreward_core.commands import plan as planning
from zreward_core.commands import plan_memory, plan_stages, plan_use
from zreward_core.commands.plan_backbone import Blueprint, read_blueprint, weight_bytes
from zreward_core.commands.plan_counts import ASSUMED, count
from zreward_core.commands.plan_engine import Engine, engine_of
from zreward_core.commands.plan_generator import read_generator
from zreward_core.commands.plan_stages import Machine, remedies
from zreward_core.commands.plan_use import Use, extrapolated
from zreward_core.config import UserError, read_params
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import load_rubric
from zreward_core.runtime.engine_settings import Vllm
from zreward_core.stages import (
    annotate,
    candidates,
    finetune_generator,
    label,
    train_gdso,
    train_risd,
)

ROOT = Path(__file__).parents[2]
RUBRIC = load_rubric(ROOT / "data/rubric.yaml")
MACHINE = Machine(8, 80e9, 300e12, 2e12, 750)
LORA = {"rank": 2, "alpha": 2}


def blueprint(num_layers: int) -> Blueprint:
    """A tiny hybrid Qwen3.5 of any depth."""
    backbone = build_family("qwen3_5", ["word"], RUBRIC, PROMPT)
    config = backbone.network.model.config
    text = config.text_config
    text.num_hidden_layers, text.layer_types = num_layers, text.layer_types * (num_layers // 4)
    processor = backbone.pixels.processor.to_dict()
    return Blueprint(config, backbone.tokenizer, processor, None, RUBRIC, PROMPT)


def bytes_of(use: Use) -> list[float]:
    return [use.weights, use.adapters, use.optimizer, use.activations, use.caches]


@pytest.mark.parametrize("measure", ["update", "decoding", "traces"])
def test_extrapolation_over_layers_equals_the_whole_model(
    measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = blueprint(12)

    def found() -> Use:
        inputs = "float32", None, (2, len(RUBRIC.names), 2), (32, 32)
        if measure == "decoding":
            return plan_memory.rollouts.__wrapped__(deep, *inputs)[1]
        if measure == "traces":
            return plan_memory.traces.__wrapped__(deep, *inputs)[0]
        config = train_risd.Config(
            seed=1, lora=LORA, gradient_checkpointing=True, micro_batch_size=2
        )
        return plan_memory.risd_update.__wrapped__(deep, config, (32, 32))

    estimated = found()
    monkeypatch.setattr(plan_use, "DEPTHS", (4, 12))
    whole = found()
    assert bytes_of(estimated) == pytest.approx(bytes_of(whole), rel=0.02, abs=2000)
    assert estimated.operations == pytest.approx(whole.operations, rel=0.02)
    weights = sum(weight_bytes(deep.build("float32", None, False)))
    if measure != "update":
        assert whole.weights == pytest.approx(weights, rel=0.01)
        assert (whole.caches > 0) == (measure == "decoding")
    else:
        assert whole.optimizer == pytest.approx(2 * whole.adapters, rel=0.01)


def test_the_update_of_gdso_grows_with_the_group_and_is_counted_in_its_own_code() -> None:
    small, large = (
        plan_memory.gdso_update.__wrapped__(
            blueprint(4),
            train_gdso.Config(
                seed=1, micro_batch_pairs=1, group_size=size, gradient_checkpointing=True
            ),
            (32, 32),
        )
        for size in (2, 8)
    )
    assert large.activations > small.activations
    assert large.weights == small.weights == 0  # all weights are trained
    assert large.optimizer == pytest.approx(2 * large.adapters, rel=0.01)


def test_tuning_is_counted_with_its_averages_and_recomputed_activations(tmp_path: Path) -> None:
    save_generator(tmp_path / "generator", "z_image", ["a word"])
    generator = read_generator(str(tmp_path / "generator"), None)
    lora = {"rank": 32, "alpha": 2}
    settings = {"seed": 1, "dtype": "float32", "size": (64, 64), "lora": lora}
    plain, recomputed = (
        plan_memory.tuning.__wrapped__(
            generator,
            blueprint(4),
            finetune_generator.Config(**settings, gradient_checkpointing=again),
            1,
        )
        for again in (False, True)
    )
    assert recomputed.activations < 0.9 * plain.activations
    assert plain.optimizer == pytest.approx((2 + 2) * plain.adapters, rel=0.05)
    assert plain.weights > plain.adapters > 0


ENGINE = {"kind": "vllm", "python": "/opt/python"}


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
    assert engine_of(Vllm(**ENGINE | settings)) == Engine(devices, share)
    with pytest.raises(UserError, match=r"--gpu-memory-utilization is 'half', not a number"):
        engine_of(Vllm(**ENGINE, arguments=["--gpu-memory-utilization", "half"]))


def labelled(engine: Engine | None) -> tuple[plan_stages.Row, Machine]:
    """The row of a small teacher that labels on a small GPU, by seven processes."""
    deep, machine = blueprint(4), replace(MACHINE, memory=20e6, engine=engine)
    counts = replace(count(configs(), RUBRIC), size=(32, 32))
    models = plan_stages.Models(deep, deep, None)  # type: ignore[arg-type]
    config = label.Config(seed=1, num_traces=2, batch_size=1)
    return plan_stages.label(config, 7, False, models, counts, machine), machine


def test_an_engine_is_counted_on_its_gpu_and_on_that_of_a_process() -> None:
    alone, machine = labelled(Engine((7,), 0.92))
    own = alone.moments["engine"]
    assert set(alone.moments) == {"traces", "engine"} and alone.moments["traces"].engine == 0
    assert own.total == pytest.approx(0.92 * machine.memory) and planning.fits(alone, machine)
    shared, machine = labelled(Engine((6,), 0.92))
    assert shared.moments["traces"].engine == pytest.approx(0.92 * machine.memory)
    assert not planning.fits(shared, machine)
    how = planning.mend_engine(shared, machine)
    assert how is not None and '`CUDA_VISIBLE_DEVICES: "6"`' in how and "6 processes" in how
    share = float(how.split("at most ")[1])
    assert planning.fits(*labelled(Engine((6,), share)))
    assert not planning.fits(*labelled(Engine((6,), share + 0.02)))


def test_an_engine_that_is_too_small_for_its_model_needs_more_memory_or_gpus() -> None:
    short, machine = labelled(Engine((7,), 0.02))
    assert short.tightest(machine)[0] == "engine" and not planning.fits(short, machine)
    how = planning.mend_engine(short, machine)
    assert how is not None and how.startswith("launch.yaml: `--gpu-memory-utilization`")
    assert planning.fits(*labelled(Engine((7,), float(how.split("at least ")[1]))))
    small = replace(machine, memory=short.moments["engine"].total)
    alone = replace(short, moments={"engine": short.moments["engine"]})
    assert "--tensor-parallel-size" in str(planning.mend_engine(alone, small))


def test_figures_of_hub_models_have_the_real_number_of_weights() -> None:
    prompt = PromptSettings(**read_params(ROOT / "params/paper.yaml")["base_vlm"]["prompt"])
    for name, low, high in (
        ("Qwen/Qwen3.5-27B", 26e9, 29e9),
        ("Qwen/Qwen3.5-9B", 8.5e9, 10.5e9),
        ("Qwen/Qwen3.5-4B", 4e9, 5e9),
        ("Qwen/Qwen3-VL-8B-Thinking", 8.2e9, 9.2e9),
        ("Qwen/Qwen3-VL-4B-Instruct", 4e9, 5e9),
    ):
        found = read_blueprint(name, "main", 1_048_576, RUBRIC, prompt)
        assert low < sum(weight_bytes(found.build("bfloat16", None, False))) / 2 < high, name
    with pytest.raises(UserError, match="hf download someone/model"):
        read_blueprint("someone/model", "main", None, RUBRIC, prompt)


def configs(**prompt_files: list[Path]) -> dict[str, Any]:
    setting = {"path": "a", "steps": 1, "guidance": 1, "size": [1024, 768]}
    generators = [setting | {"annotation": 4, "unlabelled": 2}]
    return {
        "candidates": candidates.Config(seed=1, generators=generators, prompt_files=prompt_files),
        "annotate": annotate.Config(seed=1, overlap={"train": 1, "validation": 2, "test": 5}),
        "finetune_generator": finetune_generator.Config(seed=1),
    }


def test_prompts_are_counted_or_assumed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    found = count(configs(annotation=[tmp_path / "a.txt"], unlabelled=[tmp_path / "b"]), RUBRIC)
    assert found.images == {"annotation": 8, "unlabelled": 2 * ASSUMED["unlabelled"]}
    assert found.prompts["generator_eval"] == 0 and found.assumed == (str(tmp_path / "b"),)
    assert found.judgements == round(8 * (0.8 * 1 + 0.1 * 2 + 0.1 * 5) * 4)
    assert found.size == (1024, 768)


def test_a_stage_that_does_not_fit_names_the_param_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = train_gdso.Config(seed=1, micro_batch_pairs=4, group_size=8, lora=LORA)

    def planner(config: Any, *_: Any) -> plan_stages.Row:
        size = 10e9 * config.micro_batch_pairs * config.group_size
        size /= 2 if config.gradient_checkpointing else 1
        return plan_stages.Row("train_gdso", 8, {"update": Use(activations=size)})

    row = planner(config)
    how = planning.mend(planner, config, row, True, None, None, MACHINE)  # type: ignore[arg-type]
    assert how == (
        "`train_gdso.gradient_checkpointing: True`, `train_gdso.micro_batch_pairs: 1` (40.0 GB)"
    )
    small = replace(MACHINE, memory=1e9)
    assert "no param of the stage" in planning.mend(planner, config, row, True, None, None, small)  # type: ignore[arg-type]
    assert not planning.Plan([row], [], MACHINE).fits(row)


@pytest.mark.parametrize("moment", ["update", "prefill", "decoding", "panel", "denoising"])
def test_remedies_never_change_what_is_distilled_or_tuned(moment: str) -> None:
    for stage, config in (
        ("train_risd", train_risd.Config(seed=1)),
        ("finetune_generator", finetune_generator.Config(seed=1)),
    ):
        assert "batch_size" not in [name for name, _ in remedies(stage, config, moment)]


def test_launchers_are_those_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert planning.read_launchers("paper") == {}
    for folder, processes in (("params/launch/paper.yaml", 8), ("launch.yaml", 2)):
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        launchers = {"some": {"kind": "accelerate", "processes": processes}}
        content = {"launchers": launchers, "stages": {"label": "some", "evaluate": "local"}}
        content["engines"] = {"vllm": ENGINE | {"environment": {"CUDA_VISIBLE_DEVICES": "7"}}}
        content["rollouts"] = {"label": "vllm", "evaluate": "local"}
        Path(folder).write_text(yaml.safe_dump(content))
    assert planning.read_launchers("paper")["label"].processes == 8
    assert planning.read_launchers("other")["label"].processes == 2
    assert "evaluate" not in planning.read_launchers(None)
    assert planning.read_engines("paper") == {"label": Engine((7,), 0.92)}


def test_a_measurement_that_a_signal_ends_is_made_again(tmp_path: Path) -> None:
    def measure(faults: int) -> int:
        died = len(list(tmp_path.iterdir()))
        if died < faults:
            (tmp_path / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    assert plan_use.isolated(lambda: measure(2)) != os.getpid()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(RuntimeError, match=f"exit code -{signal.SIGKILL}"):
        plan_use.isolated(lambda: measure(9))
    with pytest.raises(RuntimeError, match="exit code 1"):
        plan_use.isolated(lambda: [][0])


def test_use_below_the_measured_depths_is_exact() -> None:
    assert extrapolated(3, lambda depth: Use(weights=depth)).weights == 3
    assert extrapolated(64, lambda depth: Use(weights=10 + depth)).weights == 74


def test_a_plan_of_the_demo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="pretrained here"):
        planning.make_plan("smoke", MACHINE)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", ["eight_gpus", "paper"])
def test_the_shipped_profiles_fit_on_eight_gpus_of_80_gb(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = planning.make_plan(profile, MACHINE)
    assert [row.stage for row in plan.rows] == list(plan_stages.PLANNERS)
    assert all(plan.fits(row) for row in plan.rows), plan.notes


def test_lora_settings_reach_the_blueprint() -> None:
    built = blueprint(4).build("bfloat16", LoraSettings(**LORA), True, train=True)
    frozen, trained = weight_bytes(built)
    assert 0 < trained < frozen
    assert built.network.model.is_gradient_checkpointing
    assert all(p.device == torch.device("meta") for p in built.trainable())
