"""Tiny models and settings for the tests of `zreward plan`."""

import functools
from pathlib import Path
from typing import Any

from tests.tiny_models import PROMPT, build_family
from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.rows import Machine
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import load_rubric
from zreward_core.stages import (
    annotate,
    candidates,
    finetune_generator,
)

ROOT = Path(__file__).parents[2]
RUBRIC = load_rubric(ROOT / "data/rubric.yaml")
MACHINE = Machine(8, 80e9, 300e12, 2e12, 750)
LORA = {"rank": 2, "alpha": 2}


@functools.cache  # measurements are kept by blueprint
def blueprint(
    num_layers: int, prompt: PromptSettings = PROMPT, family: str = "qwen3_5"
) -> Blueprint:
    """A tiny model of any depth; Qwen3.5 is hybrid, with a period of four layers."""
    backbone = build_family(family, ["word"], RUBRIC, prompt)
    config = backbone.network.model.config
    text = config.text_config
    text.num_hidden_layers = num_layers
    if getattr(text, "layer_types", None):
        text.layer_types = (text.layer_types * num_layers)[:num_layers]
    processor = backbone.pixels.processor.to_dict()
    return Blueprint(config, backbone.tokenizer, processor, None, RUBRIC, prompt)


def configs(**prompt_files: list[Path]) -> dict[str, Any]:
    setting = {"path": "a", "steps": 1, "guidance": 1, "size": [1024, 768]}
    generators = [setting | {"annotation": 4, "unlabelled": 2}]
    return {
        "candidates": candidates.Config(seed=1, generators=generators, prompt_files=prompt_files),
        "annotate": annotate.Config(seed=1, overlap={"train": 1, "validation": 2, "test": 5}),
        "finetune_generator": finetune_generator.Config(seed=1),
    }
