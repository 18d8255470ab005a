"""Results of a stage that are logged to its run: curves, metrics, images, small text files."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.schemas import read_json

HISTORY = "history.jsonl"
NUMBERS = {"metrics.json": (), "gsb.json": (), "audit.json": ("alpha", "counts")}
"""File to the keys of it that are metrics of the stage; empty: all."""
TOTALS = ("overall", "mean")
"""Of a table by dimension, only the row with one of these names is logged."""
GROUPS = ("models", "differences", "reference")
"""Keys that only group others; they are left out of metric names."""
LEFT_OUT = ("_low", "_high", "/low", "/high", "num_pairs", "output_tokens", "num_items")
UNNAMEABLE = re.compile(r"[^\w./ :-]")
"""Characters that MLflow rejects in names."""
TEXTS = (".json", ".xml", ".md", ".html")
MAX_TEXT_BYTES = 1_000_000
PAGES = {"evaluate": Path("reports/viewer/viewer.html")}
"""Stage to the page that it writes outside its folder, a single file."""
Point = tuple[str, float, int]
"""Name, value, step."""


def curves(folder: Path) -> Iterator[Point]:
    """(name, value, step) of every finite number in the folder's history, and in those of its
    subfolders, whose names precede those of the metrics."""
    yield from points(folder / HISTORY)
    for path in sorted(folder.glob(f"*/{HISTORY}")):
        yield from points(path, f"{path.parent.name}/")


def points(path: Path, prefix: str = "") -> Iterator[Point]:
    """(name, value, step) of every finite number in a history's complete lines.

    Nothing if there is no such file.
    """
    if not path.is_file():
        return
    lines = path.read_text().split("\n")[:-1]
    for index, line in enumerate(lines):
        row = json.loads(line)
        step = int(row.get("step", index))
        for name, value in row.items():
            if name != "step" and _is_number(value):
                yield prefix + UNNAMEABLE.sub("_", name), float(value), step


def numbers(folder: Path) -> dict[str, float]:
    """Final metrics of the stage by flat name, without intervals and counts."""
    flat: dict[str, float] = {}
    for file, parts in NUMBERS.items():
        if not (folder / file).is_file():
            continue
        content = read_json(folder / file)
        flat |= _flatten({part: content[part] for part in parts} if parts else content)
    kept = {name: value for name, value in flat.items() if not name.endswith(LEFT_OUT)}
    return {UNNAMEABLE.sub("_", name): value for name, value in kept.items()}


def metric_name(stage: str, name: str) -> str:
    """Name of a stage's metric in MLflow.

    MLflow's charts have a section for what precedes the last "/". With one section per stage, in
    its own run and in the pipeline's, no section of a comparison is empty.
    """
    return f"{stage}/{name.replace('/', '.')}"


def images(folder: Path) -> list[Path]:
    """Plots and contact sheets of the folder, sorted."""
    return sorted(folder.glob("*.png"))


def samples(folder: Path) -> dict[int, Path]:
    """Step to its image, of those that a running stage has published (``progress``)."""
    return {int(path.stem): path for path in sorted(folder.glob("*.png"))}


def texts(folder: Path) -> list[Path]:
    """Small texts of the folder (config, metrics, cards), sorted."""
    found = [path for path in folder.glob("*") if path.suffix in TEXTS]
    return sorted(path for path in found if path.stat().st_size <= MAX_TEXT_BYTES)


def pages(folder: Path) -> list[Path]:
    """The page of the folder's stage, if it wrote one."""
    return [path for name, path in PAGES.items() if name == folder.name and path.is_file()]


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, float]:
    total = next((key for key in TOTALS if isinstance(content.get(key), dict)), None)
    if total is not None:
        return _flatten(content[total], prefix)
    flat: dict[str, float] = {}
    for key, value in content.items():
        name = prefix if key in GROUPS else f"{prefix}{key}/"
        if isinstance(value, dict):
            flat |= _flatten(value, name)
        elif _is_number(value):
            flat[f"{prefix}{key}"] = float(value)
    return flat


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
