"""The README's example runs on the image that it names."""

import re
from pathlib import Path

import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

ROOT = Path(__file__).parents[1]


def test_the_example_scores_a_shipped_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.+?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)[
        :1
    ]
    rubric = load_rubric(ROOT / "data/rubric.yaml")
    student = build_backbone(SIZES, ["two red circles at the top"], rubric, PROMPT, seed=0)
    student.save(tmp_path / "data/train_risd/student", {"stage": "train_risd"})
    (tmp_path / "zreward_core").symlink_to(ROOT / "zreward_core")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == rubric.names
    assert all(re.fullmatch(r"\w+ +[1-5]\.\d ± [0-2]\.\d", line) for line in lines)
    assert len(code.splitlines()) <= 10


def test_every_image_of_a_command_ships() -> None:
    blocks = re.findall(r"^```.*?^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    named = [path for block in blocks for path in re.findall(r"[\w./-]+\.png", block)]
    assert len(named) == 2
    assert not [path for path in named if not (ROOT / path).is_file()]
