"""A tiny backbone with random weights, and images that have to be resized."""

import numpy as np
import pytest
import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import Dimension, Rubric

PROMPT = PromptSettings(
    system="rate {labels}",
    label_separator="",
    question="{name}",
    question_separator=" ",
    score=" score",
    line=" {name}",
    mark="?",
    max_trace_tokens=8,
)
SIZES = TinySizes(
    hidden_size=32,
    intermediate_size=48,
    vision_hidden_size=32,
    vision_depth=1,
    vision_intermediate_size=48,
)


@pytest.fixture(scope="session")
def rubric() -> Rubric:
    names = ["alignment", "realism", "charm"]
    dimensions = [Dimension(name=n, title=n, question=f"how is {n}", levels={}) for n in names]
    return Rubric(
        name="test", levels=[1, 2, 3, 4], labels=["1", "2", "3", "4"], dimensions=dimensions
    )


@pytest.fixture(scope="session")
def backbone(rubric: Rubric) -> Backbone:
    texts = ["a red circle at the top left", "two blue stars on the right nothing fine"]
    built = build_backbone(SIZES, texts, rubric, PROMPT, seed=3)
    with torch.no_grad():  # larger weights, so that differences show
        for parameter in built.network.parameters():
            parameter.mul_(2.0) if parameter.ndim > 1 else None
    built.network.eval()
    return built


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (48, 60), (60, 48), (64, 64), (40, 50), (32, 32), (48, 48), (50, 40)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    return [
        "a red circle at the top left",
        "two blue stars on the right",
        "a red circle",
        "words that nobody knows",
        "stars",
        "a",
        "two red stars at the left",
        "blue",
    ]
