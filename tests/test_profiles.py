"""The profiles parse, and the real models they name can be built."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from zreward_core.cli import STAGES
from zreward_core.config import UserError, read_params

REAL = ("paper", "eight_gpus")
ROOT = Path(__file__).parents[1]
QWEN_27B = {
    "text_config": {
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 64,
        "num_attention_heads": 24,
        "num_key_value_heads": 4,
        "linear_num_value_heads": 48,
    },
    "vision_config": {"out_hidden_size": 5120},
}
"""Qwen3.5-27B where it differs from the library's defaults."""
QWEN_9B = {"vision_config": {"out_hidden_size": 4096}}
"""Qwen3.5-9B: the library's defaults."""


@pytest.mark.parametrize("profile", [None, "smoke", *REAL])
@pytest.mark.parametrize("stage", STAGES)
def test_profiles_parse(stage: str, profile: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = __import__(f"zreward_core.stages.{stage}", fromlist=["Config"])
    overlay = Path(f"params/{profile}.yaml") if profile else None
    assert module.Config.load(stage, overlay).seed == 17


EXPECTED = {
    "policy_weight": 1.0,
    "temperature": 1.0,
    "thorough": {},
    "optimizer": "adamw",
    "oracle": False,
    "judge": "people",
    "simulate": False,
    "dtype": "bfloat16",
    "gradient_checkpointing": True,
}
"""What the miniature tunes for itself, in every stage of a real profile that has it."""


@pytest.mark.parametrize("profile", REAL)
def test_a_real_profile_inherits_nothing_of_the_miniature(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # there is no params.yaml
    found: dict[str, Any] = {
        stage: importlib.import_module(f"zreward_core.stages.{stage}").Config.load(
            stage, ROOT / f"params/{profile}.yaml"
        )
        for stage in STAGES
    }
    for stage, config in found.items():
        for name in EXPECTED.keys() & type(config).model_fields.keys():
            assert getattr(config, name) == EXPECTED[name], f"{stage}.{name}"
    assert found["world"].size == 0
    assert found["validate"].splits.train == 0.8
    assert found["finetune_generator"].watch.every >= 100
    for stage in ("finetune_generator", "evaluate_gsb"):
        assert found[stage].size == (1024, 1024)
    assert all(one.dtype == "bfloat16" for one in found["candidates"].generators)


def test_a_standalone_file_replaces_params_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 1\nlabel: {num_traces: 7}\n")
    Path("over.yaml").write_text("seed: 2\n")
    assert read_params(Path("over.yaml")) == {"seed": 2, "label": {"num_traces": 7}}
    Path("over.yaml").write_text("standalone: true\nseed: 2\n")
    assert read_params(Path("over.yaml")) == {"seed": 2}
    Path("over.yaml").write_text("standalone: yes\nseed: 2\n")
    with pytest.raises(UserError, match="'standalone' must be true or false, not 'yes'"):
        read_params(Path("over.yaml"))


@pytest.mark.parametrize(
    ("config", "low", "high"), [(QWEN_27B, 26e9, 29e9), (QWEN_9B, 8.5e9, 10.5e9)]
)
def test_real_backbones_build_on_the_meta_device(config: dict, low: float, high: float) -> None:
    with torch.device("meta"):
        model = Qwen3_5ForConditionalGeneration(Qwen3_5Config(**config))
    assert low < sum(p.numel() for p in model.parameters()) < high
    kinds = model.config.text_config.layer_types
    assert kinds.count("linear_attention") == 3 * kinds.count("full_attention")


def test_real_generator_builds_on_the_meta_device() -> None:
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel()
    assert 5.5e9 < sum(p.numel() for p in transformer.parameters()) < 7e9
