"""One cell of the comparison: a stage with a method's params and a seed, then what is read of it.

    python benchmarks/cell.py train_gdso gdso 17

A cell is a project root of its own, benchmarks/cells/METHOD/SEED, that links what all methods share
(bases, candidates, annotations) and what it takes from another cell of the same seed. It runs the
ordinary commands there. What the tables read of it is copied to benchmarks/predictions/METHOD/SEED.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from zreward_core.config import merge, read_yaml

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SHARED = ("base_vlm", "base_generator", "candidates", "ingest", "validate", "rubric.yaml")
"""What every cell links from the main job's data."""
RUNS = {
    "predict": ("predict",),
    "rollouts": ("predict",),
    "label": ("label",),
    "students": ("label", "train_risd", "predict"),
    "tune": ("finetune_generator", "evaluate_gsb"),
}
"""Kind of cell to its commands; any other kind is a stage that trains, then predicts."""
TEACHER = {"data/train_gdso": "gdso/data/train_gdso"}
TAKES = {
    "rollouts": TEACHER,
    "label": TEACHER,
    "students": TEACHER,
    "train_opd": TEACHER,
    "train_risd": {"data/label": "labels/data/label"},
    "tune": TEACHER,
}
"""Kind of cell to what it links from other cells of the same seed: METHOD/PATH."""
MODELS = {
    "predict": ("", False),
    "rollouts": ("train_gdso/teacher", True),
    "train_sft": ("train_sft/scorer", False),
    "train_rewarddance": ("train_rewarddance/teacher", True),
    "train_grpo": ("train_grpo/teacher", True),
    "train_gdso": ("train_gdso/teacher", True),
    "train_opd": ("train_opd/student", True),
    "train_risd": ("train_risd/student", False),
    "students": ("train_risd/student", False),
}
"""Kind of cell to the model it predicts with, and whether that reasons."""
PROBED = ("main", "reasoning", "coupling")
"""Tables whose methods are probed, where they reason."""
KEPT = {
    "predict": {"predictions.parquet": "predictions.parquet"},
    "trace_faithfulness": {"scores.parquet": "coupling.parquet"},
    "finetune_generator": {"metrics.json": "metrics.json", "history.jsonl": "history.jsonl"},
    "evaluate_gsb": {"gsb.json": "gsb.json", "judgements.parquet": "judgements.parquet"},
}
"""Command to the files of its output that are kept, and their names."""


def main(kind: str, method: str, seed: int) -> None:
    """Run a cell."""
    entry = read_yaml(HERE / "methods.yaml")["cells"][kind][method]
    params = overlay(kind, seed, entry["params"])
    root = prepare(kind, method, seed, params, entry.get("reward"))
    kept = HERE / "predictions" / method / str(seed)
    shutil.rmtree(kept, ignore_errors=True)
    seconds = {}
    for command in commands(kind, entry):
        began = time.monotonic()
        run(root, command)
        seconds[command] = round(time.monotonic() - began, 1)
        if kind != "label":
            keep(root, command, kept)
    if kind != "label":
        (kept / "seconds.json").write_text(json.dumps(seconds))


def commands(kind: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """The commands of a cell; a compared method that reasons is probed too."""
    found = RUNS.get(kind, (kind, "predict"))
    reasons = overlay(kind, 0, entry["params"]).get("predict", {}).get("reasoning")
    return (*found, "trace_faithfulness") if reasons and entry.get("table") in PROBED else found


def overlay(kind: str, seed: int, params: dict[str, Any]) -> dict[str, Any]:
    """The params of a cell that differ from the project's."""
    asked: dict[str, Any] = {"seed": seed}
    if kind in MODELS:
        model, reasoning = MODELS[kind]
        asked["predict"] = {"model": f"data/{model}", "reasoning": reasoning}
        asked["predict"]["judged_splits"] = ["validation", "test"]
    merged = merge(asked, params)
    if kind in MODELS:
        merged["trace_faithfulness"] = {"model": merged["predict"]["model"]}
    return merged


def prepare(kind: str, method: str, seed: int, params: dict[str, Any], reward: str | None) -> Path:
    """The cell's root with its links and its overlay.

    Args:
        reward: METHOD/PATH of the scorer that rewards a generator.
    """
    root = HERE / "cells" / method / str(seed)
    (root / "data").mkdir(parents=True, exist_ok=True)
    link(PROJECT / "params.yaml", root / "params.yaml")
    if (PROJECT / "launch.yaml").is_file():
        link(PROJECT / "launch.yaml", root / "launch.yaml")
    for name in SHARED:
        link(PROJECT / "data" / name, root / "data" / name)
    taken = TAKES.get(kind, {}) | ({"data/champion/student": reward} if reward else {})
    for path, source in taken.items():
        other, rest = source.split("/", 1)
        link(HERE / "cells" / other / str(seed) / rest, root / path)
    (root / "overlay.yaml").write_text(yaml.safe_dump(params))
    return root


def link(target: Path, path: Path) -> None:
    """A symbolic link, made anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def run(root: Path, command: str) -> None:
    """Run a command in a cell; MLflow takes no part unless it is asked to."""
    zreward = str(Path(sys.executable).with_name("zreward"))
    environment = {"ZREWARD_TRACKING": "off", **os.environ}
    arguments = [zreward, "--root", str(root), command, "--params", "overlay.yaml"]
    subprocess.run(arguments, env=environment, check=True)


def keep(root: Path, command: str, folder: Path) -> None:
    """Copy what the tables read: predictions, probes, and the history of what was trained."""
    folder.mkdir(parents=True, exist_ok=True)
    history = {"history.jsonl": "history.jsonl"} if command.startswith("train_") else {}
    for file, name in KEPT.get(command, history).items():
        shutil.copyfile(root / "data" / command / file, folder / name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
