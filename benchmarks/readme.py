"""Put the results and costs of the last run of the demo into the README.

    make run && python benchmarks/readme.py

It writes docs/runs/demo.json, from which `zreward run` estimates the time left where no run was
recorded yet, the images of docs/images that a run draws, and the parts of README.md between
markers. `--render` rewrites the README from the committed files alone. `--other` records only the
results, as those of a machine with other vector instructions, in docs/runs/demo_avx2.json.
"""

import argparse
import os
import re
import shutil
from pathlib import Path
from typing import Any

from zreward_core.commands.claims import (
    GSB,
    METRICS,
    OVER_BASES,
    SHIPPED_BASES,
    claims_of_run,
)
from zreward_core.commands.run import DEMO, RECORDED
from zreward_core.commands.stage_times import RUN, Run, executed
from zreward_core.config import UserError
from zreward_core.evaluation.summary import (
    MODELS,
    bases_markdown,
    bases_text,
    claims_markdown,
    models_markdown,
    without_zero,
)
from zreward_core.schemas import read_json, write_json

README = Path("README.md")
FIGURES = RECORDED / f"{DEMO}.json"
OTHER = RECORDED / f"{DEMO}_avx2.json"
IMAGES = {
    "before_after": Path("data/finetune_generator/contact_sheet.png"),
    "examples": Path("data/evaluate/examples.png"),
    "hpa": Path("data/evaluate/hpa.png"),
    "world": Path("data/world/contact_sheet.png"),
}
"""Image in docs/images to the one of a run that it is a copy of."""
DISK = ("data", ".dvc", ".zreward")
"""Folders that a run fills."""
SHOWN = ("hpa", "hpa_low", "hpa_high", "margin_hpa", "plcc", "srcc", "output_tokens")
NAMES = {
    "zero_shot": "zero-shot, one token (student's base model)",
    "zero_shot_reasoning": "zero-shot, reasoning (teacher's base model)",
    "teacher": "teacher (GDSO)",
    "student": "student (RISD)",
    "annotator_agreement": "annotators, split halves",
    "oracle": "pixel oracle (ceiling)",
}


def main() -> None:
    """Record the last run, unless only the README is asked for, and rewrite the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--render", action="store_true", help="leave the files in docs/runs")
    parser.add_argument("--other", action="store_true", help=f"write {OTHER} instead of {FIGURES}")
    given = parser.parse_args()
    if given.other:
        write_json(results_of_run(), OTHER)
    elif not given.render:
        write_json(figures_of_run(), FIGURES)
        for name, path in IMAGES.items():
            shutil.copyfile(path, README.parent / f"docs/images/{name}.png")
    figures, other, bases = map(read_json, (FIGURES, OTHER, OVER_BASES))
    README.write_text(rendered(README.read_text(), figures, other, bases))


def figures_of_run() -> dict[str, Any]:
    """Results and costs of the last `make run` in this folder.

    Raises:
        UserError: it did not execute every stage from start to end.
    """
    run = Run.model_validate_json(RUN.read_text()) if RUN.is_file() else None
    times = executed(run) if run else {}
    if run is None or run.seconds is None or len(times) < len(run.ancestors):
        raise UserError(
            f"{RUN}: the last run did not execute every stage; run `make run` in a new clone"
        )
    return {
        "minutes": round(run.seconds / 60, 1),
        "peak_memory_gb": round(run.peak_memory / 1e9, 1),
        "disk_gb": round(sum(folder_size(Path(name)) for name in DISK) / 1e9, 1),
        "cores": os.cpu_count(),
        "stages": {
            name: {
                "minutes": round(record.seconds / 60, 2),
                "peak_memory_gb": round(record.peak_memory / 1e9, 2),
            }
            for name, record in times.items()
        },
        **results_of_run(),
    }


def results_of_run() -> dict[str, Any]:
    """Results of the stages in this folder."""
    metrics = read_json(METRICS)
    rows = {name: metrics["models"][name]["overall"] for name in MODELS}
    rows |= {name: entry["overall"] for name, entry in metrics["reference"].items()}
    return {
        "models": {name: _rounded(rows[name]) for name in NAMES if name in rows},
        "gsb": read_json(GSB),
        "claims": claims_of_run(),
    }


def rendered(
    text: str, figures: dict[str, Any], other: dict[str, Any], bases: list[dict[str, Any]]
) -> str:
    """A README with the parts between ``<!-- run: PART -->`` and ``<!-- end -->`` made anew.

    Raises:
        UserError: a part has no markers.
    """
    shipped = read_json(SHIPPED_BASES / "recipe.json")["seed"]
    parts = {
        "cost": cost_text(figures),
        "models": models_markdown(figures["models"], NAMES),
        "claims": claims_markdown(figures["claims"]),
        "other": other_text(other),
        "bases": f"{without_zero(bases_text(bases))}\n\n{bases_markdown(bases, shipped)}",
    }
    for name, content in parts.items():
        pattern = rf"(<!-- run: {name} -->\n).*?(\n<!-- end -->)"
        text, count = re.subn(
            pattern, lambda found, new=content: found[1] + new + found[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise UserError(
                f"{README} needs one part between <!-- run: {name} --> and <!-- end -->"
            )
    return text


def cost_text(figures: dict[str, Any]) -> str:
    """Minutes, memory and disk of a run."""
    needs = [f"{figures['peak_memory_gb']:.1f} GB of memory"]
    if figures["disk_gb"] is not None:
        needs.append(f"{figures['disk_gb']:.1f} GB of disk")
    return (
        f"After installation `make run` took {figures['minutes']:.0f} minutes on a machine with"
        f" {figures['cores']} cores.\nIt needed {' and '.join(needs)}."
    )


def other_text(other: dict[str, Any]) -> str:
    """Results on a machine with other vector instructions."""
    teacher, student = (
        "{hpa:.3f} [{hpa_low:.3f}, {hpa_high:.3f}]".format(**other["models"][name])
        for name in ("teacher", "student")
    )
    gsb = "{gsb:+.2f} [{low:+.2f}, {high:+.2f}]".format(**other["gsb"]["overall"])
    missed = [f"'{claim['name']}'" for claim in other["claims"] if not claim["holds"]]
    claims = f"not {', '.join(missed)}" if missed else "every claim holds"
    return without_zero(
        f"On a machine without AVX-512: HPA of teacher {teacher}, student {student}; GSB {gsb};"
        f" {claims}."
    )


def folder_size(folder: Path) -> int:
    """Bytes of a folder's files; hard links count once."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({path.stat().st_ino: path.stat().st_size for path in files}.values())


def _rounded(entry: dict[str, Any]) -> dict[str, float | None]:
    values = {key: entry.get(key) for key in SHOWN}
    return {key: None if value is None else round(value, 5) for key, value in values.items()}


if __name__ == "__main__":
    main()
