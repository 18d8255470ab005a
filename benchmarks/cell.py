"""One cell of the comparison: a stage with a method's params and a seed, then its predictions.

    python benchmarks/cell.py train_gdso gdso 17

A cell is a project root of its own, benchmarks/cells/METHOD/SEED, that links what all methods share
(bases, candidates, annotations) and what it takes from another cell of the same seed. It runs the
ordinary commands there. What the table reads of it is copied to benchmarks/predictions/METHOD/SEED.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from zreward_core.config import merge, read_yaml

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SHARED = ("base_vlm", "candidates", "ingest", "validate", "rubric.yaml")
"""What every cell links from the main job's data."""
TAKES = {
    "label": ("gdso", "train_gdso"),
    "train_opd": ("gdso", "train_gdso"),
    "train_risd": ("labels", "label"),
}
"""Stage to the method whose cell of the same seed it goes on from, and the folder it takes."""
MODELS = {
    "train_sft": ("scorer", False),
    "train_rewarddance": ("teacher", True),
    "train_grpo": ("teacher", True),
    "train_gdso": ("teacher", True),
    "train_opd": ("student", True),
    "train_risd": ("student", False),
}
"""Stage to the model it writes, and whether that reasons."""


def main(stage: str, method: str, seed: int) -> None:
    """Run a cell."""
    entry = read_yaml(HERE / "methods.yaml")["cells"][stage][method]
    root = prepare(stage, method, seed, overlay(stage, seed, entry["params"]))
    for command in (stage, "predict") if stage in MODELS else (stage,):
        run(root, command)
    if stage != "label":
        keep(root, stage, HERE / "predictions" / method / str(seed))


def overlay(stage: str, seed: int, params: dict) -> dict:
    """The params of a cell that differ from the project's."""
    asked = {}
    if stage in MODELS:
        folder, reasoning = MODELS[stage]
        asked = {"predict": {"model": f"data/{stage}/{folder}", "reasoning": reasoning}}
    return merge(merge({"seed": seed}, asked), params)


def prepare(stage: str, method: str, seed: int, params: dict) -> Path:
    """The cell's root with its links and its overlay."""
    root = HERE / "cells" / method / str(seed)
    (root / "data").mkdir(parents=True, exist_ok=True)
    link(PROJECT / "params.yaml", root / "params.yaml")
    if (PROJECT / "launch.yaml").is_file():
        link(PROJECT / "launch.yaml", root / "launch.yaml")
    for name in SHARED:
        link(PROJECT / "data" / name, root / "data" / name)
    if stage in TAKES:
        other, folder = TAKES[stage]
        link(HERE / "cells" / other / str(seed) / "data" / folder, root / "data" / folder)
    (root / "overlay.yaml").write_text(yaml.safe_dump(params))
    return root


def link(target: Path, path: Path) -> None:
    """A symbolic link, made anew."""
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def run(root: Path, stage: str) -> None:
    """Run a stage in a cell; MLflow takes no part unless it is asked to."""
    zreward = str(Path(sys.executable).with_name("zreward"))
    environment = {"ZREWARD_TRACKING": "off", **os.environ}
    command = [zreward, "--root", str(root), stage, "--params", "overlay.yaml"]
    subprocess.run(command, env=environment, check=True)


def keep(root: Path, stage: str, folder: Path) -> None:
    """Copy a cell's predictions, and the history of the training before them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(root / "data/predict/predictions.parquet", folder / "predictions.parquet")
    if stage in MODELS:
        shutil.copyfile(root / "data" / stage / "history.jsonl", folder / "history.jsonl")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
