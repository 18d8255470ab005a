"""The profiles parse, and the real models they name can be built."""

from pathlib import Path

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from zreward_core.cli import STAGES

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


@pytest.mark.parametrize("profile", [None, "smoke", "paper"])
@pytest.mark.parametrize("stage", STAGES)
def test_profiles_parse(stage: str, profile: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = __import__(f"zreward_core.stages.{stage}", fromlist=["Config"])
    overlay = Path(f"params/{profile}.yaml") if profile else None
    assert module.Config.load(stage, overlay).seed == 17


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
