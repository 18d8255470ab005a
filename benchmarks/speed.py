"""Ratios of speed, of two things timed alternately on this machine: `make bench-speed`.

Models have random weights. Everything runs on one thread per process on the CPU. The ratios are
printed as they are measured, and written into docs/runs/speed.json and docs/speed.md;
`--render` rewrites the page from the committed file alone, `--only NAMES` measures a part and
writes nothing.
"""

import argparse
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from benchmarks import speed_measures as measures
from benchmarks.speed_measures import Measured
from benchmarks.speed_models import FULL, ROOT, TINY, Scale
from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

FIGURES, PAGE = ROOT / "docs/runs/speed.json", ROOT / "docs/speed.md"
MARKERS = re.compile(r"(<!-- run: speed -->\n).*?(\n<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Ratio:
    """A ratio with its goal."""

    title: str
    goal: float
    at_least: bool
    """Whether the goal is a lower limit, not an upper one."""
    missed: str
    """What keeps the ratio from its goal, where it is missed."""


RATIOS: dict[str, tuple[Ratio, Callable[[Scale], Iterator[Measured]]]] = {
    "score": (
        Ratio(
            "speed of `score()` / of the forward of the same batches", 0.9, True,
            "a forward of a tiny model is short beside the preparation of its inputs",
        ),
        measures.score,
    ),
    "dimensions": (
        Ratio(
            "time of four dimensions / of one", 1.1, False,
            "the lines of three more dimensions are a large part of a short sequence",
        ),
        measures.dimensions,
    ),
    "reward": (
        Ratio(
            "time of `reward()` forward and backward / forward", 3.2, False,
            "the backward pass took more than 2.2 forward passes",
        ),
        measures.reward,
    ),
    "teacher": (
        Ratio(
            "speed of the student / of its teacher with traces", 20.0, True,
            "decoding of the teacher is fast beside a forward pass of the student",
        ),
        measures.teacher,
    ),
    "server": (
        Ratio(
            "speed of the server / of `score_stream()`", 0.8, True,
            "requests are parsed and answered on the cores that score, and single images make small"
            " batches",
        ),
        measures.server,
    ),
    "labelling": (
        Ratio(
            "time of labelling / of transformers' `generate()` of the same tokens", 1.1, False,
            "closing a trace and reading its score are additional decoding steps",
        ),
        measures.labelling,
    ),
    "gdso": (
        Ratio(
            "time of a GDSO step / of TRL's GRPO step", 1.0, False,
            "an image, the closing of a trace and its score are additional work",
        ),
        measures.gdso,
    ),
}  # fmt: skip
"""Ratios by name."""


def row(ratio: Ratio, measured: Measured) -> dict[str, Any]:
    """A line of the results: the median of the ratios, their range, and whether it is the goal."""
    pairs = zip(measured.first, measured.second, strict=True)
    ratios = [measured.weight * first / second for first, second in pairs]
    middle = median(ratios)
    met = middle >= ratio.goal if ratio.at_least else middle <= ratio.goal
    return {
        "title": ratio.title,
        "model": measured.model,
        "parameters": measured.parameters,
        "goal": ratio.goal,
        "at_least": ratio.at_least,
        "ratio": middle,
        "lowest": min(ratios),
        "highest": max(ratios),
        "repeats": len(ratios),
        "seconds": [median(measured.first), median(measured.second)],
        "met": met,
        "note": measured.note,
        "reason": None if met else ratio.missed,
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def measure(names: list[str], scale: Scale) -> dict[str, Any]:
    """Measure ratios by name, and print each."""
    results: dict[str, Any] = {"machine": machine(), "rows": []}
    for name in names:
        ratio, run = RATIOS[name]
        for measured in run(scale):
            results["rows"].append({"name": name} | row(ratio, measured))
            print(line(results["rows"][-1]), flush=True)
    return results


def line(entry: dict[str, Any]) -> str:
    """A line of the table in Markdown."""
    goal = f"{'≥' if entry['at_least'] else '≤'} {entry['goal']:g}"
    spread = f"{entry['lowest']:.2f}-{entry['highest']:.2f}, {entry['repeats']} repeats"
    model = f"{entry['model']}, {entry['parameters'] / 1e6:.2f} M"
    met = "yes" if entry["met"] else f"**missed**: {entry['reason']}"
    found = f"{entry['ratio']:.2f} ({spread})"
    return f"| {' | '.join((entry['title'], model, goal, found, met, entry['note']))} |"


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    found = results["machine"]
    return "\n".join(
        [
            "| ratio | model, parameters | goal | median (range) | reached | measured on |",
            "| --- | --- | --- | --- | --- | --- |",
            *map(line, results["rows"]),
            "",
            f"Measured on {found['cores']} CPU cores (load average {found['load']} at the start),"
            f" torch {found['torch']}, transformers {found['transformers']}.",
        ]
    )


def rendered(text: str, results: dict[str, Any]) -> str:
    """The page with the table between its markers.

    Raises:
        UserError: the markers are missing.
    """
    text, count = MARKERS.subn(lambda found: found[1] + table(results) + found[2], text)
    if count != 1:
        raise UserError(f"{PAGE} needs one part between <!-- run: speed --> and <!-- end -->")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(RATIOS), nargs="+", help="some of the ratios")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, without meaning")
    parser.add_argument("--render", action="store_true", help="leave docs/runs/speed.json as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not options.render:
        results = measure(options.only or list(RATIOS), TINY if options.tiny else FULL)
        if options.only or options.tiny:
            return
        write_json(results, FIGURES)
    PAGE.write_text(rendered(PAGE.read_text(), read_json(FIGURES)))


if __name__ == "__main__":
    main()
