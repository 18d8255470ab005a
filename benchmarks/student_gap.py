"""Why the student's alignment is below its teacher's: variants of train_risd, judged on validation.

    python benchmarks/student_gap.py half_prompts steps_2800
    python benchmarks/student_gap.py table

Needs a finished run of the demo. Each variant is trained on the run's labels, or a part of them,
from the run's base or another one, and predicts the validation items. Results are kept in
student_gap.json. A variant runs in one process; set OMP_NUM_THREADS=1 to run two side by side.

longer_pretraining needs its base in benchmarks/bases/longer_pretraining: the student of
`zreward base_vlm` with params/full.yaml, seed 19 and student.pretraining.steps 4000, its weights
rounded by bases.round_checkpoint, with its zreward.json.
"""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from cell import HERE, PROJECT, SHARED, link, run
from settings import judged

from zreward_core.schemas import LABELS, read_json, read_table, write_json, write_table

RESULTS = HERE / "student_gap.json"
LABELS_FILE = Path("data/label/labels.parquet")
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Limits torch, oneDNN and MKL to the instructions of a processor without AVX-512."""


def half_prompts(labels: pd.DataFrame) -> pd.DataFrame:
    """Every second prompt, with all its images."""
    return labels[labels.groupby("prompt").ngroup() % 2 == 0]


def half_images(labels: pd.DataFrame) -> pd.DataFrame:
    """All prompts, with the first half of the images of each."""
    images = labels.groupby(["prompt", "dimension"])
    return labels[images.cumcount() < images["prompt"].transform("size") / 2]


VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "teacher": {"predict": {"model": "data/train_gdso/teacher", "reasoning": True}},
    "half_prompts": {"labels": half_prompts},
    "half_images": {"labels": half_images},
    "steps_700": {"train_risd": {"steps": 700}},
    "steps_2800": {"train_risd": {"steps": 2800}},
    "rate_1e-3": {"train_risd": {"learning_rate": 1.0e-3}},
    "rate_4e-3": {"train_risd": {"learning_rate": 4.0e-3}},
    "longer_pretraining": {"base": "benchmarks/bases/longer_pretraining"},
    "teachers_base": {"base": "data/base_vlm/teacher"},
    "avx2": {"environment": AVX2},
}
"""Changes of the demo: part of the labels, settings of train_risd, folder of the student's base.

"teacher" is judged without training a student; "avx2" only changes the rounding."""


def main(names: list[str]) -> None:
    """Run the variants, or print the table."""
    for name in names if names != ["table"] else []:
        row = try_out(name, **VARIANTS[name])
        tried = read_json(RESULTS) if RESULTS.is_file() else []
        write_json([*(old for old in tried if old["variant"] != name), row], RESULTS)
    print(pd.DataFrame(read_json(RESULTS)).to_string(index=False, float_format="%.3f"))


def try_out(
    name: str,
    labels: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    train_risd: dict[str, Any] | None = None,
    base: str | None = None,
    predict: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Train a variant, or take the model of `predict`, and measure it on the validation items."""
    root = HERE / "cells/student_gap" / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    link(PROJECT / "params.yaml", root / "params.yaml")
    for shared in (*SHARED, "train_gdso"):
        if not (shared == "base_vlm" and base):
            link(PROJECT / "data" / shared, root / "data" / shared)
    if base:
        link(PROJECT / base, root / "data/base_vlm/student")
    kept = read_table(PROJECT / LABELS_FILE, LABELS)
    kept = labels(kept) if labels else kept
    write_table(kept, root / LABELS_FILE, LABELS)
    judged_on = {"judged_splits": ["validation"], **(predict or {})}
    laid = {"predict": judged_on, "train_risd": train_risd or {}}
    (root / "overlay.yaml").write_text(yaml.safe_dump(laid))
    began = time.monotonic()
    if predict is None:
        run(root, "train_risd", environment)
    minutes = (time.monotonic() - began) / 60
    run(root, "predict", environment)
    counts = {"prompts": kept["prompt"].nunique(), "images": kept["item_id"].nunique()}
    return {"variant": name, **counts, "minutes": round(minutes, 1), **judged(root)}


if __name__ == "__main__":
    main(sys.argv[1:])
