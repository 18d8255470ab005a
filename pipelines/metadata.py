"""Metadata on an asset's page: results, images, files, links."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import MarkdownMetadataValue, MetadataValue
from PIL import Image

from pipelines import images
from pipelines.curves import curves_image
from pipelines.tables import lookup, markdown_table, read, read_history, result_table
from zreward_core.dvc import Lock, Stage

MLFLOW_UI = "ZREWARD_MLFLOW_UI"
REPORTS_UI = "ZREWARD_REPORTS_UI"
"""Environment variables with addresses for links, set by `make ui`."""
MLFLOW_VIEW = "?workflowType=machine_learning"
"""Without it MLflow opens a run in its view for LLM traces."""

NUMBERS = {
    "base_vlm": {
        "teacher_parameters": ("metrics.json", "teacher.num_parameters"),
        "student_parameters": ("metrics.json", "student.num_parameters"),
    },
    "validate": {
        "ratings": ("audit.json", "counts.ratings"),
        "test_pairs": ("audit.json", "counts.pairs.test"),
    },
    "evaluate": {
        "student_hpa": ("metrics.json", "models.student.overall.hpa"),
        "teacher_hpa": ("metrics.json", "models.teacher.overall.hpa"),
        "student_plcc": ("metrics.json", "models.student.overall.plcc"),
        "student_ece": ("metrics.json", "models.student.overall.ece"),
    },
    "finetune_generator": {
        "reward_after": ("metrics.json", "reward.mean.after"),
        "panel_after": ("metrics.json", "panel.mean.after"),
    },
    "evaluate_gsb": {"gsb": ("gsb.json", "overall.gsb")},
}
"""Stage to its metrics that Dagster plots over time: label to file and key."""
REPORTS = {
    "ingest": {"Data Docs": "data_docs/index.html"},
    "validate": {
        "Data Docs": "data_docs/index.html",
        "annotators' audit": "audit.html",
        "annotators' guide": "rubric.html",
    },
    "annotate": {"annotators' guide": "rubric.html"},
    "evaluate": {"test and pool items": "viewer/index.html"},
}
"""Stage to the pages in reports/ about it: title to path."""
ABOUT = {
    "data_docs/index.html": "the rules of the tables, with the number of rows that break each",
    "audit.html": "reliability of each annotator, and the most disputed items",
    "rubric.html": "dimensions, scores and exemplars",
    "viewer/index.html": "images with the scores of annotators, teacher and student",
}
"""Page in reports/ to its content."""


def describe(root: Path, stage: Stage, lock: Lock, how: str) -> dict[str, Any]:
    """Metadata of a stage's materialization, read from its outs.

    Args:
        root: the project.
        stage: the stage.
        lock: dvc.lock.
        how: how the outs were produced, as text (run, restored, already up to date).
    """
    folder = root / "data" / stage.name
    shown: dict[str, Any] = {"how": how}
    shown |= _numbers(folder, stage.name)
    if table := result_table(root, stage):
        shown["results"] = MetadataValue.md(table)
    drawn = (folder / "curves.png").is_file()  # by the stage
    curves = None if drawn else curves_image(read_history(folder))
    if curves is not None:
        shown["training curves"] = MetadataValue.md(images.shown(curves, "training curves"))
    for path in _images(root, stage):
        with Image.open(path) as image:
            shown[path.stem] = MetadataValue.md(images.shown(image, path.stem))
    shown["files"] = MetadataValue.md(_file_table(lock.get(stage.name, {})))
    shown["folder"] = MetadataValue.path(str(folder.relative_to(root)) if folder.is_dir() else ".")
    return shown | _links(root, stage.name)


def _numbers(folder: Path, stage: str) -> dict[str, Any]:
    found = {}
    for label, (file, key) in NUMBERS.get(stage, {}).items():
        value = lookup(read(folder / file), key)
        if isinstance(value, int | float):
            found[label] = _number(value)
    alphas = lookup(read(folder / "audit.json"), "alpha") or {} if stage == "validate" else {}
    found |= {
        f"alpha_{name}": _number(value) for name, value in alphas.items() if value is not None
    }
    return found


def _number(value: float) -> Any:
    return value if isinstance(value, int) else MetadataValue.float(round(value, 4))


def _images(root: Path, stage: Stage) -> list[Path]:
    found: list[Path] = []
    for out in stage.outs:
        path = root / out
        found += sorted(path.glob("*.png")) if path.is_dir() else [path]
    return [path for path in found if path.suffix == ".png" and path.is_file()]


def _file_table(entry: Mapping[str, Any]) -> str:
    rows = [[f"`{out['path']}`", _size(out.get("size", 0)), f"`{str(out.get('md5'))[:8]}`"]
            for out in entry.get("outs", [])]  # fmt: skip
    return markdown_table(["file", "size", "md5 in dvc.lock begins"], rows)


def _links(root: Path, stage: str) -> dict[str, Any]:
    links: dict[str, Any] = {}
    run = read(root / ".zreward/runs" / f"{stage}.json")
    mlflow = os.environ.get(MLFLOW_UI)
    if mlflow and run and "run_id" in run:  # absent while the run starts
        address = f"{mlflow}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}{MLFLOW_VIEW}"
        links["MLflow run"] = link(run["run_id"][:8], address)
    reports = os.environ.get(REPORTS_UI)
    for title, page in REPORTS.get(stage, {}).items():
        if reports and (root / "reports" / page).is_file():
            links[title] = MetadataValue.url(f"{reports}/{page}")
    return links


def link(text: str, address: str) -> MarkdownMetadataValue:
    """A link; as ``MetadataValue.url`` a long address would widen the page's table."""
    return MetadataValue.md(f"[{text}]({address})")


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
