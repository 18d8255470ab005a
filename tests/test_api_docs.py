"""Every example of docs/api.md runs."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models.hub_server import hub_server, point_to
from tests.tiny_models import PROMPT, SIZES
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/api.md").read_text()
EXAMPLES = dict(
    re.findall(r"^## (\d+\. .+?)$.*?^```python\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student, teacher and image that the examples name."""
    path = tmp_path_factory.mktemp("examples")
    rubric = load_rubric(ROOT / "data/rubric.yaml")
    for name, stage in (("student", "train_risd"), ("teacher", "train_gdso")):
        backbone = build_backbone(SIZES, ["a cat on a red sofa"], rubric, PROMPT, seed=0)
        backbone.save(path / name, {"stage": stage})
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path / "cat.png")
    return path


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    with hub_server() as (address, _):
        point_to(address, folder / "cache", monkeypatch)
        yield


def test_there_are_ten_examples() -> None:
    assert len(EXAMPLES) == 10 == TEXT.count("```python")


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_runs(title: str, hub: None) -> None:
    exec(compile(EXAMPLES[title], f"docs/api.md, {title}", "exec"), {})
