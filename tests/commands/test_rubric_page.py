"""The page shows every dimension, level, pattern and exemplar, and loads nothing else."""

import re
from pathlib import Path

import numpy as np
import pytest

from zreward_core.annotations.label_studio.exemplars import Exemplar, write_exemplars
from zreward_core.commands.rubric_page import write_rubric_page
from zreward_core.config import UserError
from zreward_core.images import encode_png

RUBRIC = """
name: mine
levels: [1, 2, 3]
labels: [a, b, c]
exemplars: data/mine
dimensions:
  - name: charm
    title: Charm & wit
    question: Does it <charm>?
    patterns: [{name: dull, points: 1.5, text: nothing happens}]
    levels: {3: it does, 1: it does not}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rubric.yaml").write_text(RUBRIC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_page_without_and_with_exemplars(root: Path) -> None:
    page, number = write_rubric_page()
    assert number == 0 and "No exemplars yet" in page.read_text()
    content = encode_png(np.zeros((4, 4, 3), np.uint8))
    why = {"charm": "a joke <b>"}
    exemplar = Exemplar(image="1.png", prompt="a clown", scores={"charm": 3}, why=why)
    write_exemplars([(exemplar, content)], Path("data/mine"))
    page, number = write_rubric_page()
    text = page.read_text()
    assert number == 1 and "No exemplars" not in text
    assert "Charm &amp; wit" in text and "Does it &lt;charm&gt;?" in text
    assert re.findall(r'class="score">([\d.]+)<', text) == ["3", "2", "1"], "the best on top"
    assert "dull" in text and "−1.5" in text and "nothing happens" in text
    assert "between the neighbouring levels" in text, "a level without a text"
    assert "a clown" in text and "a joke &lt;b&gt;" in text
    assert text.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', text), "nothing is loaded from elsewhere"


def test_a_faulty_rubric_is_reported(root: Path) -> None:
    broken = RUBRIC.replace("points: 1.5", "points: -1")
    Path("data/rubric.yaml").write_text(broken)
    with pytest.raises(UserError, match=r"data/rubric.yaml.*patterns.0.points"):
        write_rubric_page()
    twice = "patterns: [{name: dull, points: 1}, {name: dull, points: 2}]"
    Path("data/rubric.yaml").write_text(re.sub("patterns: .*", twice, RUBRIC))
    with pytest.raises(UserError, match="names a pattern twice"):
        write_rubric_page()
