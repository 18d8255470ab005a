"""The committed report has the texts of its generator; its figure has the rubric's words."""

import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from zreward_core.config import read_yaml
from zreward_core.world.oracle import judge

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which imports those beside it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("table")


def test_the_committed_report_has_the_texts_of_its_generator(table: ModuleType) -> None:
    report = importlib.import_module("report")
    text = (BENCHMARKS / "REPORT.md").read_text()
    seeds, prompts, pairs = re.findall(
        r"Seeds: (\d+); held-out prompts: (\d+); pairs: (\d+)", text
    )[0]
    study = report.Study(**dict.fromkeys(field.name for field in dataclasses.fields(report.Study)))
    study = dataclasses.replace(
        study,
        seeds=[0] * int(seeds),
        num_prompts=int(prompts),
        summaries={"gdso": {"num_pairs": float(pairs)}},
        missing={},
    )
    findings = (BENCHMARKS / "findings.md").read_text().strip()
    assert text.startswith(f"{report.opening(study)}\n\n{findings}\n\n## Methods\n\n")


def test_defects_have_the_words_of_the_rubric(table: ModuleType) -> None:
    found = judge(np.zeros((32, 32, 3), np.uint8), "a red circle at the top left")
    assert set(table.DEFECTS) == set(found.severities)
    rubric = read_yaml(BENCHMARKS.parent / "data/rubric.yaml")
    patterns = [one["name"] for part in rubric["dimensions"] for one in part["patterns"]]
    for name in table.DEFECTS.values():
        assert any(name in pattern for pattern in patterns), name
