"""`zreward plan`: counted on fake tensors, extrapolated over layers."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.plan_models import LORA, ROOT, RUBRIC, blueprint
from tests.diffusion.tiny_pipelines import tiny_pipeline
from tests.integration.random_models import save_generator
from tests.tiny_models import PROMPT
from zreward_core.commands.plan import memory as plan_memory
from zreward_core.commands.plan import tuning as plan_tuning
from zreward_core.commands.plan import use as plan_use
from zreward_core.commands.plan.backbone import read_blueprint, weight_bytes
from zreward_core.commands.plan.fake_run import FakeRun
from zreward_core.commands.plan.generator import read_generator
from zreward_core.commands.plan.use import Use, extrapolated
from zreward_core.config import UserError, read_params
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.families import FAMILIES
from zreward_core.models.prompts import PromptSettings
from zreward_core.stages import (
    finetune_generator,
    train_gdso,
    train_risd,
)


def bytes_of(use: Use) -> list[float]:
    return [use.weights, use.adapters, use.optimizer, use.activations, use.caches]


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[pytest.mark.long] * ("moe" in one)) for one in FAMILIES]
)
@pytest.mark.parametrize("measure", ["update", "decoding", "traces", "scores"])
def test_extrapolation_over_layers_equals_the_whole_model(
    measure: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = blueprint(12, family=family)
    dtype = "bfloat16"

    def found() -> Use:
        inputs = dtype, None, (2, len(RUBRIC.names), 2), (32, 32)
        if measure == "decoding":
            return plan_memory.rollouts.__wrapped__(deep, *inputs)[1]
        if measure == "traces":
            return plan_memory.traces.__wrapped__(deep, *inputs, 10**6)[0]
        if measure == "scores":
            return plan_memory.scoring.__wrapped__(deep, dtype, None, 3, (32, 32))
        config = train_risd.Config(
            seed=1, lora=LORA, dtype=dtype, gradient_checkpointing=True, micro_batch_size=2
        )
        return plan_memory.risd_update.__wrapped__(deep, config, (32, 32))

    estimated = found()
    monkeypatch.setattr(plan_use, "DEPTHS", (4, 12))
    whole = found()
    assert bytes_of(estimated) == pytest.approx(bytes_of(whole), rel=0.02, abs=2000)
    assert estimated.operations == pytest.approx(whole.operations, rel=0.02)
    weights = sum(weight_bytes(deep.build(dtype, None, False)))
    if measure != "update":
        assert whole.weights == pytest.approx(weights, rel=0.01)
        assert (whole.caches > 0) == (measure == "decoding")
    else:
        assert whole.optimizer == pytest.approx(2 * whole.adapters, rel=0.01)


DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_experts_are_counted(dtype: torch.dtype) -> None:
    rows, experts = torch.zeros(6, 16), torch.zeros(3, 16, 8)
    expected = 2 * 6 * 16 * 8
    with FakeRun() as run:
        first, weights = (torch.zeros(one.shape, dtype=dtype) for one in (rows, experts))
        ends = torch.tensor([2, 4, 6], dtype=torch.int32)
        found = torch._grouped_mm(first.requires_grad_(), weights.requires_grad_(), offs=ends)
        assert found.shape == (6, 8) and found.dtype == dtype
        assert run.operations == expected
        found.square().sum().backward()
        assert run.operations == 3 * expected
        assert first.grad is not None and first.grad.shape == rows.shape
        assert weights.grad is not None and weights.grad.shape == experts.shape


@pytest.mark.parametrize("family", [one for one in FAMILIES if "moe" in one])
def test_a_mixture_of_experts_takes_twice_the_memory_in_float32(family: str) -> None:
    half, full = (
        plan_memory.scoring.__wrapped__(blueprint(4, family=family), dtype, None, 3, (32, 32))
        for dtype in ("bfloat16", "float32")
    )
    assert full.weights == pytest.approx(2 * half.weights, rel=0.01)
    assert half.activations < full.activations < 2.1 * half.activations
    assert full.operations == pytest.approx(half.operations, rel=0.02)


def test_the_update_of_gdso_grows_with_the_group_and_is_counted_in_its_own_code() -> None:
    small, large = (
        plan_memory.pairs_update.__wrapped__(
            "train_gdso",
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


@pytest.mark.parametrize("name", ["z_image", "sd3", "flux", "flux_without_distillation"])
def test_generators_of_these_pipelines_are_counted(name: str, tmp_path: Path) -> None:
    pipe = tiny_pipeline(name)
    pipe.save_pretrained(tmp_path)
    step, decoding = plan_tuning.sampling.__wrapped__(
        read_generator(str(tmp_path), None), "float32", 2, 4.0, (32, 32)
    )
    weights = sum(p.numel() for part in pipe.components.values() for p in tensors(part))
    assert step.weights == pytest.approx(4 * weights, rel=0.02)
    assert step.activations > 0 < decoding.activations and step.operations > 0


def tensors(part: Any) -> list[torch.Tensor]:
    is_module = isinstance(part, torch.nn.Module)
    return [*part.parameters(), *part.buffers()] if is_module else []


def test_a_pipeline_that_cannot_be_counted_is_named(tmp_path: Path) -> None:
    tiny_pipeline("qwen_image").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"only ZImagePipeline, .* can be counted"):
        read_generator(str(tmp_path), None)


def test_tuning_is_counted_with_its_averages_and_recomputed_activations(tmp_path: Path) -> None:
    save_generator(tmp_path / "generator", "z_image", ["a word"])
    generator = read_generator(str(tmp_path / "generator"), None)
    lora = {"rank": 32, "alpha": 2}
    settings = {"seed": 1, "dtype": "float32", "size": (64, 64), "lora": lora}
    plain, recomputed = (
        plan_tuning.tuning.__wrapped__(
            generator,
            blueprint(4),
            None,
            finetune_generator.Config(**settings, gradient_checkpointing=again),
            1,
        )
        for again in (False, True)
    )
    assert recomputed.activations < 0.9 * plain.activations
    assert plain.optimizer == pytest.approx((2 + 2) * plain.adapters, rel=0.05)
    assert plain.weights > plain.adapters > 0


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


def test_questions_of_unequal_length_take_more_steps() -> None:
    asked = {"question": "{levels}"}
    inputs = "float32", None, (1, len(RUBRIC.names), 1), (32, 32)
    prompt = PROMPT.model_copy(update=asked)
    deep = blueprint(4, prompt)
    lengths = [len(question) for question in deep.build("float32", None, False).chat.questions]
    assert max(lengths) > min(lengths)
    *_, steps = plan_memory.rollouts.__wrapped__(deep, *inputs)
    closing = len(deep.build("float32", None, False).chat.closing)
    assert steps == PROMPT.max_trace_tokens + closing + max(lengths) - min(lengths)


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


def test_lora_settings_reach_the_blueprint() -> None:
    built = blueprint(4).build("bfloat16", LoraSettings(**LORA), True, train=True)
    frozen, trained = weight_bytes(built)
    assert 0 < trained < frozen
    assert built.network.model.is_gradient_checkpointing
    assert all(p.device == torch.device("meta") for p in built.trainable())
