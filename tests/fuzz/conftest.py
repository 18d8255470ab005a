"""A tiny student, saved once; the number of inputs that a test tried."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import INPUTS_TRIED
from tests.fuzz.effort import TRIED
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


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]):
    """Record how many inputs a property test tried; see ``pytest_terminal_summary``."""
    name = request.function.__name__
    before = TRIED[name]
    yield
    if number := TRIED[name] - before:
        record_property(INPUTS_TRIED, number)
