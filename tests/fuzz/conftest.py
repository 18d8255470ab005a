"""A tiny student, saved once."""

from pathlib import Path

import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import Dimension, Rubric


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dimensions = [Dimension(name=n, title=n, question="?", levels={}) for n in ("form", "charm")]
    rubric = Rubric(name="r", levels=[1, 2, 3], labels=["1", "2", "3"], dimensions=dimensions)
    folder = tmp_path_factory.mktemp("model") / "student"
    build_backbone(SIZES, ["a red circle"], rubric, PROMPT, seed=3).save(folder, {"stage": "fuzz"})
    return folder
