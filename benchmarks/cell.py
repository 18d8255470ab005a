"""One cell of the comparison: the stages of a kind with the cell's params and a seed.

    python benchmarks/cell.py train_gdso gdso 17

A cell is a project root of its own, benchmarks/cells/CELL/SEED. It links the data that all cells
share (bases, candidates, annotations) and its inputs from other cells of the same seed, and runs
the ordinary commands. The files that the tables read are copied to
benchmarks/predictions/CELL/SEED. methods.yaml describes the kinds and their cells.
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

from zreward_core.config import UserError, merge, read_yaml

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SHARED = ("bases", "base_vlm", "base_generator", "candidates", "ingest", "validate", "rubric.yaml")
"""Linked into every cell from the data of the pipeline."""
KEPT = {
    "predict": {"predictions.parquet": "predictions.parquet"},
    "trace_faithfulness": {"scores.parquet": "coupling.parquet"},
    "finetune_generator": {"metrics.json": "metrics.json", "history.jsonl": "history.jsonl"},
    "evaluate_gsb": {"gsb.json": "gsb.json", "judgements.parquet": "judgements.parquet"},
}
"""Stage to the files of its output that the tables read, and their names there."""
HISTORY = {"history.jsonl": "history.jsonl"}


def main(kind: str, name: str, seed: int) -> None:
    """Run a cell."""
    described = read_yaml(HERE / "methods.yaml")
    root = prepare(described, kind, name, seed, overlay(described, kind, name, seed))
    kept = HERE / "predictions" / name / str(seed)
    shutil.rmtree(kept, ignore_errors=True)
    seconds = {}
    for stage in stages(described, kind, name):
        began = time.monotonic()
        run(root, stage)
        seconds[stage] = round(time.monotonic() - began, 1)
        keep(root, stage, kept)
    if kept.is_dir():
        (kept / "seconds.json").write_text(json.dumps(seconds))


def described_kind(described: dict[str, Any], kind: str) -> dict[str, Any]:
    """A kind of methods.yaml with its defaults.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in described["kinds"]:
        raise UserError(
            f"benchmarks/methods.yaml has no kind '{kind}': add its entry below 'kinds'"
        )
    defaults = {"desc": kind, "stages": [kind, "predict"], "model": "", "reasons": False}
    return {**defaults, "takes": {}, **described["kinds"][kind]}


def stages(described: dict[str, Any], kind: str, name: str) -> list[str]:
    """The stages of a cell, with trace_faithfulness if it reasons and its table includes it."""
    found = described_kind(described, kind)
    table = described["tables"].get(found["cells"][name].get("table"), {})
    reasons = overlay(described, kind, name, 0).get("predict", {}).get("reasoning")
    faithfulness = ["trace_faithfulness"] if reasons and table.get("faithfulness") else []
    return [*found["stages"], *faithfulness]


def overlay(described: dict[str, Any], kind: str, name: str, seed: int) -> dict[str, Any]:
    """The params of a cell that differ from the project's."""
    found = described_kind(described, kind)
    cell = found["cells"][name]["params"]
    if "predict" not in found["stages"]:
        return merge({"seed": seed}, cell)
    predict = {
        "model": f"data/{found['model']}",
        "reasoning": found["reasons"],
        "judged_splits": ["validation", "test"],
    }
    merged = merge({"seed": seed, "predict": predict}, cell)
    return merged | {"trace_faithfulness": {"model": merged["predict"]["model"]}}


def prepare(
    described: dict[str, Any], kind: str, name: str, seed: int, params: dict[str, Any]
) -> Path:
    """Make the root of a cell, with its links and its overlay.

    Args:
        name: of the cell, or any other name for a root with the links of its kind.
        params: written as the overlay.
    """
    root = HERE / "cells" / name / str(seed)
    (root / "data").mkdir(parents=True, exist_ok=True)
    link(PROJECT / "params.yaml", root / "params.yaml")
    if (PROJECT / "launch.yaml").is_file():
        link(PROJECT / "launch.yaml", root / "launch.yaml")
    for shared in SHARED:
        link(PROJECT / "data" / shared, root / "data" / shared)
    found = described_kind(described, kind)
    taken = found["takes"] | found["cells"].get(name, {}).get("takes", {})
    for path, source in taken.items():
        other, rest = source.split("/", 1)
        link(HERE / "cells" / other / str(seed) / rest, root / path)
    (root / "overlay.yaml").write_text(yaml.safe_dump(params))
    return root


def link(target: Path, path: Path) -> None:
    """Make or replace a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def run(root: Path, stage: str, variables: dict[str, str] | None = None) -> None:
    """Run a stage in a cell, with further environment variables.

    Runs are tracked in MLflow only if ZREWARD_TRACKING is set so.
    """
    zreward = str(Path(sys.executable).with_name("zreward"))
    environment = {"ZREWARD_TRACKING": "off", **os.environ, **(variables or {})}
    arguments = [zreward, "--root", str(root), stage, "--params", "overlay.yaml"]
    subprocess.run(arguments, env=environment, check=True)


def keep(root: Path, stage: str, folder: Path) -> None:
    """Copy the files of a stage's output that the tables read."""
    for file, name in KEPT.get(stage, HISTORY if stage.startswith("train_") else {}).items():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / "data" / stage / file, folder / name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
