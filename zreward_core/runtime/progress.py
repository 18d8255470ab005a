"""Progress bars, and the metrics history of a training run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from zreward_core.runtime.worker import is_main

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int | None = None, initial: int = 0
) -> "tqdm[Item]":
    """Progress bar on stderr, in the main process only."""
    return tqdm(
        items,
        desc=description,
        total=total,
        initial=initial,
        mininterval=2.0,
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not is_main(),
    )


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write the metrics of each logged step as JSON lines."""
    path.write_text(
        "".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in history)
    )


def read_history(path: Path) -> list[dict[str, float]]:
    """Read a file written by ``write_history``."""
    return [json.loads(line) for line in path.read_text().splitlines()]
