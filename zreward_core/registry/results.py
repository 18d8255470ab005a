"""What of a stage's folder goes into its run: curves, a few flat numbers, images, small texts."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.schemas import read_json

HISTORY = "history.jsonl"
NUMBERS = {"metrics.json": (), "gsb.json": (), "audit.json": ("alpha", "counts")}
"""File to the parts of it that are numbers of the stage; none named means all."""
TOTALS = ("overall", "mean")
"""Where a table of dimensions has one of these, it stands for the whole table."""
GROUPS = ("models", "differences", "reference")
"""Levels of a file that only group, and are left out of names."""
LEFT_OUT = ("_low", "_high", "/low", "/high", "num_pairs", "output_tokens", "num_items")
UNNAMEABLE = re.compile(r"[^\w./ :-]")
"""What MLflow takes in no name."""
TEXTS = (".json", ".xml", ".md", ".html")
MAX_TEXT_BYTES = 1_000_000


def curves(folder: Path) -> Iterator[tuple[str, float, int]]:
    """(name, value, step) of every finite number in the folder's history."""
    path = folder / HISTORY
    if not path.is_file():
        return
    for index, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        step = int(row.get("step", index))
        for name, value in row.items():
            if name != "step" and _is_number(value):
                yield UNNAMEABLE.sub("_", name), float(value), step


def numbers(folder: Path) -> dict[str, float]:
    """Name to value of the stage's results, few enough to be read as a table."""
    flat: dict[str, float] = {}
    for file, parts in NUMBERS.items():
        if not (folder / file).is_file():
            continue
        content = read_json(folder / file)
        flat |= _flatten({part: content[part] for part in parts} if parts else content)
    kept = {name: value for name, value in flat.items() if not name.endswith(LEFT_OUT)}
    return {UNNAMEABLE.sub("_", name): value for name, value in kept.items()}


def images(folder: Path) -> list[Path]:
    """Plots and contact sheets of the folder, sorted."""
    return sorted(folder.glob("*.png"))


def texts(folder: Path) -> list[Path]:
    """Small texts of the folder (config, metrics, cards), sorted."""
    found = [path for path in folder.glob("*") if path.suffix in TEXTS]
    return sorted(path for path in found if path.stat().st_size <= MAX_TEXT_BYTES)


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
