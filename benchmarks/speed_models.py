"""Models with random weights, images and prompts for `benchmarks/speed.py`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zreward_core.config import read_yaml
from zreward_core.images import encode_png
from zreward_core.models.backbone import Backbone
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.scorer import RewardModel
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import Rubric, load_rubric

ROOT = Path(__file__).resolve().parents[1]
MINIATURE = "miniature"
LARGE = "large"
SMALLEST: dict[str, Any] = {
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "vision_hidden_size": 32,
    "vision_heads": 2,
    "vision_depth": 1,
    "vision_intermediate_size": 32,
}
LARGE_SIZES: dict[str, Any] = {
    "hidden_size": 768,
    "num_layers": 8,
    "num_heads": 12,
    "intermediate_size": 2048,
    "vision_hidden_size": 384,
    "vision_depth": 4,
    "vision_heads": 6,
    "vision_intermediate_size": 1024,
    "patch_size": 8,
}
"""Of a hybrid as the real Qwen3.5 (three layers with linear attention to one with full)."""
SIDES = {MINIATURE: 32, LARGE: 128}
"""Sides of images in pixels."""
COLORS = ["red", "green", "blue", "yellow", "white", "black"]
SHAPES = ["circle", "square", "triangle", "star", "ring", "cross"]
WORDS = [*COLORS, *SHAPES, "a", "large", "small", "on", "under", "above", "beside", "two", "with"]


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    repeats: int = 7
    """Alternations of what is compared."""
    few: int = 3
    """Alternations where one takes more than ten seconds."""
    images: dict[str, int] = field(default_factory=lambda: {MINIATURE: 128, LARGE: 16})
    """Images of a measurement by model."""
    served: dict[str, int] = field(default_factory=lambda: {MINIATURE: 1024, LARGE: 64})
    """Images that go through the server in a measurement, by model."""
    clients: int = 32
    """Clients of the server at a time."""
    judged: int = 16
    """Images that the teacher judges."""
    trace: int = 300
    """Tokens of a trace, compared with the student."""
    short_trace: int = 32
    """Tokens of a trace, elsewhere."""
    pairs: int = 8
    """Pairs of a GDSO step."""
    group: int = 4
    """Traces of a side of a pair."""
    smallest: bool = False
    """Replace all models by the smallest that run."""


FULL = Scale()
TINY = Scale(
    repeats=1,
    few=1,
    images={MINIATURE: 4, LARGE: 2},
    served={MINIATURE: 16},
    clients=2,
    judged=1,
    trace=4,
    short_trace=4,
    pairs=1,
    group=2,
    smallest=True,
)
"""For a test: the figures mean nothing."""


def rubric() -> Rubric:
    """The rubric of the repository: four dimensions."""
    return load_rubric(ROOT / "data/rubric.yaml")


def backbone(role: str, model: str, scale: Scale, trace: int | None = None) -> Backbone:
    """A student or teacher with random weights.

    Args:
        role: "student" or "teacher".
        model: ``MINIATURE``, with the sizes of the demo, or ``LARGE``.
        trace: limit of a trace in tokens.
    """
    sizes = read_yaml(ROOT / "params/full.yaml")["base_vlm"][role]["tiny"]
    sizes = SMALLEST if scale.smallest else LARGE_SIZES if model == LARGE else sizes
    prompt = read_yaml(ROOT / "params.yaml")["base_vlm"]["prompt"]
    prompt |= {"max_trace_tokens": trace or scale.short_trace}
    return build_backbone(
        TinySizes(**sizes),
        WORDS,
        rubric(),
        PromptSettings(**prompt),
        seed=0,
        max_pixels=max(1280, SIDES[model] ** 2),
    )


def student(model: str, scale: Scale) -> RewardModel:
    """A student with random weights."""
    return RewardModel(backbone("student", model, scale))


def endless(model: Backbone) -> Backbone:
    """The model, whose traces are not closed before their limit, so that all are as long."""
    model.chat.forbidden = [*model.chat.forbidden, model.chat.close_id]
    return model


def prompts(count: int) -> list[str]:
    """Prompts of 6 to 14 words, as those of the demo."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(6, 15))) for _ in range(count)]


def pixels(model: str, count: int) -> list[np.ndarray]:
    """Images [H, W, 3] of noise."""
    rng = np.random.default_rng(1)
    side = SIDES[model]
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def files(model: str, count: int) -> list[bytes]:
    """The same images as PNG files."""
    return [encode_png(one) for one in pixels(model, count)]
