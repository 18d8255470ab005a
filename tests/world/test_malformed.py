"""Spoilt records are of each kind and where the reader finds them."""

import json
from pathlib import Path

from tests.annotations.conftest import rubric  # noqa: F401
from zreward_core.annotations.formats.label_studio import read_label_studio
from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.annotations.label_studio.labeling import (
    annotation,
    export_task,
    result_item,
    task_data,
)
from zreward_core.rubric import Rubric
from zreward_core.world.malformed import KINDS, spoil


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


def test_each_kind_is_met_by_the_reader(tmp_path: Path, rubric: Rubric) -> None:  # noqa: F811
    tasks = export()
    spoil(tasks, len(KINDS), seed=3)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    rows = read_label_studio(path, "s", rubric, ImageFolder(None))
    assert rows.reasons() == {
        "malformed_record": 1,
        "missing_value": 1,
        "out_of_range": 1,
        "unknown_dimension": 1,
    }
    assert sum("removed.png" in task["data"]["image"] for task in tasks) == 1
    assert len(rows.ratings) == 32 - 4


def test_order_of_tasks_does_not_matter() -> None:
    straight, reverse = export(), export()[::-1]
    spoil(straight, 5, seed=3)
    spoil(reverse, 5, seed=3)
    assert straight == reverse[::-1]
    assert straight != export()
