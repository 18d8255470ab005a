"""A tiny reward model, and images of random pixels."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core.images import encode_png
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "student"
    rubric = load_rubric(REPOSITORY / "data/rubric.yaml")
    build_backbone(SIZES, ["a cat on a red sofa"], rubric, PROMPT, seed=1).save(folder, {})
    return str(folder)


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return encode_png(pixels)
