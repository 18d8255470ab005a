"""Progress bars, and the metrics history of a training run."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from zreward_core.runtime.worker import is_main

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
LINE_EVERY = 30.0
"""Seconds between two lines of a progress bar whose output is not a terminal."""
REMIND_AFTER = 60.0
"""Seconds without a line or bar after which ``remind`` prints the position in the whole run."""
BESIDE_POSITION = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


LIVE = Path(".zreward/live")
"""Histories of the stages that run, as JSON lines, and their sample images, in a folder of each."""


class Progress:
    """What bars of this process show beside their own numbers."""

    position: Callable[[], str] | None = None
    """Returns the position in the whole run; None outside of one."""
    shown_at = 0.0
    """Monotonic time of the last line or bar."""
    metrics_at = 0.0
    """Monotonic time of the last line of metrics."""
    said: tuple[str, dict[str, float]] | None = None
    """Stage and row of that line."""


class Bar(tqdm):
    """A bar that is preceded by the position in the whole run."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """tqdm's fields; the position takes the place of the graphic bar."""
        found = super().format_dict
        if Progress.position is not None:
            found["prefix"] = f"{Progress.position()} | {found['prefix']}"
            found["bar_format"] = BESIDE_POSITION if found["total"] else None
        return found

    def display(self, *arguments: Any, **options: Any) -> Any:
        """Show the bar."""
        Progress.shown_at = time.monotonic()
        return super().display(*arguments, **options)


class Lines:
    """A file for tqdm that turns each state of a bar into a line, for logs."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write the text without carriage returns and padding; nothing if it is blank."""
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def track(
    items: Iterable[Item], description: str, total: int | None = None, initial: int = 0
) -> "tqdm[Item]":
    """Progress bar on stderr, in the main process only.

    Where stderr is not a terminal, a line is printed every ``LINE_EVERY`` seconds instead. Work
    that was interrupted says where it continues.
    """
    if initial not in (0, total) and is_main():
        say(f"{description}: continues after {initial} of {total}")
    if sys.stderr.isatty():
        options: dict[str, Any] = {"mininterval": 2.0}
    else:
        lines = Lines(sys.stderr)
        options = {"file": lines, "mininterval": LINE_EVERY, "delay": LINE_EVERY, "miniters": 1}
    return Bar(
        items,
        desc=description,
        total=total,
        initial=initial,
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not is_main(),
        **options,
    )


def say(text: str) -> None:
    """Print a line on stderr, above a bar if one is shown."""
    Progress.shown_at = time.monotonic()
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def say_position() -> None:
    """Print the position in the whole run."""
    if Progress.position is not None:
        say(Progress.position())


def remind() -> None:
    """Print the position in the whole run if nothing was shown for ``REMIND_AFTER`` seconds."""
    if time.monotonic() - Progress.shown_at > REMIND_AFTER:
        say_position()


def publish(stage: str, rows: list[dict[str, float]], anew: bool = False) -> None:
    """Add rows of the history to the file that the tracker reads while the stage runs.

    The last row is printed if no metrics were for ``LINE_EVERY`` seconds.

    Args:
        anew: replace what the file holds.
    """
    if not is_main():
        return
    if anew:
        clear_live(stage)
    LIVE.mkdir(parents=True, exist_ok=True)
    with (LIVE / f"{stage}.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    if rows and not anew and time.monotonic() - Progress.metrics_at > LINE_EVERY:
        say_metrics(stage, rows)


def say_metrics(stage: str, history: list[dict[str, float]]) -> None:
    """Print the metrics of the last row, above a bar if one is shown, unless they just were."""
    if history and is_main() and (stage, history[-1]) != Progress.said:
        Progress.said = stage, history[-1]
        Progress.metrics_at = Progress.shown_at = time.monotonic()
        numbers = [f"{name} {value:.4g}" for name, value in history[-1].items() if name != "step"]
        step = f"{stage}, step {history[-1]['step']:g}"
        tqdm.write(f"{step}: {', '.join(numbers)}", file=sys.stderr)


def publish_sheet(stage: str, step: int, sheet: "Image") -> None:
    """Save a sheet of a step's samples where the tracker finds it while the stage runs."""
    if is_main():
        (LIVE / stage).mkdir(parents=True, exist_ok=True)
        path = LIVE / stage / f"{step:07d}.png"
        sheet.save(path.with_suffix(".partial"), "PNG")
        path.with_suffix(".partial").replace(path)


def clear_live(stage: str) -> None:
    """Remove what an earlier run of the stage published."""
    (LIVE / f"{stage}.jsonl").unlink(missing_ok=True)
    shutil.rmtree(LIVE / stage, ignore_errors=True)


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write the metrics of each logged step as JSON lines."""
    path.write_text(
        "".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in history)
    )


def read_history(path: Path) -> list[dict[str, float]]:
    """Read a file written by ``write_history``."""
    return [json.loads(line) for line in path.read_text().splitlines()]
