"""Metadata on an asset's page: results, images, files, links."""

import base64
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import MetadataValue
from tabulate import tabulate

from zreward_core.dvc import Lock, Stage

MAX_BYTES = 90_000
"""Size of an image as base64; more than 100 kB slows the page down."""
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
        "alpha_alignment": ("audit.json", "alpha.alignment"),
        "alpha_realism": ("audit.json", "alpha.realism"),
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

TABLES = {
    "base_vlm": ("metrics.json", None),
    "base_generator": ("metrics.json", None),
    "candidates": ("metrics.json", None),
    "ingest": ("summary.json", "sources"),
    "validate": ("audit.json", "annotators"),
    "finetune_generator": ("metrics.json", "reward"),
    "evaluate_gsb": ("gsb.json", None),
}
"""Stage to the file of rows by name, and the key in it, that is shown as a table."""
COLUMN_ORDER = ("before", "after", "low", "high", "good", "same", "bad", "gsb")
"""Columns in reading order; in the files they are sorted alphabetically."""


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
    table = _result_table(folder, stage.name)
    if table:
        shown["results"] = MetadataValue.md(table)
    for path in _images(root, stage):
        shown[path.stem] = MetadataValue.md(inline_image(path))
    shown["files"] = MetadataValue.md(_file_table(lock.get(stage.name, {})))
    shown["folder"] = MetadataValue.path(str(folder if folder.is_dir() else root))
    return shown | _links(root, stage.name)


def inline_image(path: Path) -> str:
    """An image as Markdown with a data URI, scaled down to ``MAX_BYTES``."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((1400, 1400))
    while True:
        for form, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 85})):
            buffer = io.BytesIO()
            image.save(buffer, form, **options)
            text = base64.b64encode(buffer.getvalue()).decode()
            if len(text) <= MAX_BYTES:
                return f"![{path.stem}](data:image/{form.lower()};base64,{text})"
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4))


def markdown_table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats have three decimals."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    return tabulate(cells, header, tablefmt="pipe", disable_numparse=True)


def lookup(content: Any, key: str) -> Any:
    """A nested value by its dotted key, or None."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def read(path: Path) -> Any:
    """Content of a JSON file, or None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _numbers(folder: Path, stage: str) -> dict[str, Any]:
    found = {}
    for label, (file, key) in NUMBERS.get(stage, {}).items():
        value = lookup(read(folder / file), key)
        if isinstance(value, int | float):
            found[label] = value if isinstance(value, int) else MetadataValue.float(round(value, 4))
    return found


def _result_table(folder: Path, stage: str) -> str:
    if stage == "evaluate":
        return _evaluation_table(read(folder / "metrics.json") or {})
    file, key = TABLES.get(stage, ("", None))
    content = read(folder / file) if file else None
    rows = lookup(content, key) if key else content
    if not isinstance(rows, Mapping) or not rows:
        return ""
    named = {name: row for name, row in rows.items() if isinstance(row, Mapping)}
    columns = list(dict.fromkeys(column for row in named.values() for column, value in row.items()
                                 if not isinstance(value, Mapping | list)))  # fmt: skip
    columns.sort(key=lambda name: COLUMN_ORDER.index(name) if name in COLUMN_ORDER else 99)
    body = [[name, *(row.get(column) for column in columns)] for name, row in named.items()]
    return markdown_table([" ", *columns], body) if named else ""


def _evaluation_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for model, parts in metrics.get("models", {}).items():
        whole = parts["overall"]
        interval = f"{whole['hpa']:.3f} [{whole['hpa_low']:.3f}, {whole['hpa_high']:.3f}]"
        rows.append(
            [model.replace("_", " "), interval, *(whole[k] for k in ("plcc", "srcc", "ece"))]
        )
    return markdown_table(["model", "HPA", "PLCC", "SRCC", "ECE"], rows) if rows else ""


def _images(root: Path, stage: Stage) -> list[Path]:
    found: list[Path] = []
    for out in stage.outs:
        path = root / out
        found += sorted(path.glob("*.png")) if path.is_dir() else [path]
    return [path for path in found if path.suffix == ".png" and path.is_file()]


def _file_table(entry: Mapping[str, Any]) -> str:
    rows = [[f"`{out['path']}`", _size(out.get("size", 0)), f"`{out.get('md5')}`"]
            for out in entry.get("outs", [])]  # fmt: skip
    return markdown_table(["file", "size", "md5 in dvc.lock"], rows)


def _links(root: Path, stage: str) -> dict[str, Any]:
    links: dict[str, Any] = {}
    run = read(root / ".zreward/runs" / f"{stage}.json")
    mlflow = os.environ.get(MLFLOW_UI)
    if run and mlflow:
        address = f"{mlflow}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}"
        links["MLflow run"] = MetadataValue.url(address + MLFLOW_VIEW)
    reports = os.environ.get(REPORTS_UI)
    if reports and stage in ("ingest", "validate") and (root / "reports/data_docs").is_dir():
        links["Data Docs"] = MetadataValue.url(f"{reports}/data_docs/index.html")
    return links


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{round(value, 3) + 0.0:.3f}"  # + 0.0 turns -0.0 into 0.0
    return str(value).replace("|", "/")


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
