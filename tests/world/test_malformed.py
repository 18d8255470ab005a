"""Malformed records are of each kind, and the reader recognises them."""

import json
from pathlib import Path

import pytest

from tests.annotations.conftest import rubric  # noqa: F401
from tests.annotations.sources import Read
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.label_studio.labeling import task_data
from zreward_core.rubric import Rubric
from zreward_core.world.label_studio_export import annotation, export_task, result_item
from zreward_core.world.malformed import KINDS, corrupt


def export() -> list[dict]:
    tasks = []
    for number in range(1, 21):
        result = [result_item(name, "3", str(number)) for name in ("alignment", "realism")]
        cancelled = number % 5 == 0
        judged = annotation(
            number, number, 1, [] if cancelled else result, cancelled, 9.0, 0.0, False
        )
        tasks.append(export_task(number, task_data(f"prompt {number}", "0" * 64, ""), [judged]))
    return tasks


def test_each_kind_is_recognised_by_the_reader(
    tmp_path: Path,
    rubric: Rubric,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = export()
    corrupt(tasks, len(KINDS), seed=3)
    path = Path("data/drops/export.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(tasks))
    read = Read(Source(name="s", path=path, images=path.parent), rubric, [path])
    assert read.quarantine["reason"].value_counts().to_dict() == {
        "malformed_record": 1,
        "missing_value": 1,
        "out_of_range": 1,
        "unknown_dimension": 1,
    }
    assert sum("removed.png" in task["data"]["image"] for task in tasks) == 1
    assert len(read.ratings) == 32 - 4


def test_order_of_tasks_does_not_matter() -> None:
    straight, reverse = export(), export()[::-1]
    corrupt(straight, 5, seed=3)
    corrupt(reverse, 5, seed=3)
    assert straight == reverse[::-1]
    assert straight != export()
