"""Search of settings on the validation split: writes settings.json and prints a table.

    python benchmarks/settings.py train_gdso train_grpo

Each candidate of settings.yaml is trained as a cell with one seed and evaluated on the validation
prompts only. Candidates with a result are skipped. Chosen settings are written by hand into
params.yaml or methods.yaml.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from cell import HERE, overlay, prepare, run

from zreward_core.config import merge, read_yaml
from zreward_core.evaluation.reference import align_prediction, build_reference
from zreward_core.evaluation.report import measure
from zreward_core.schemas import ITEMS, PAIRS, read_json, read_table, with_scores, write_json

RESULTS = HERE / "settings.json"
SEED = 17
FIGURES = ("hpa", "margin_hpa", "plcc", "nll", "output_tokens")


def main(kinds: list[str]) -> None:
    """Evaluate the new candidates, then print all results."""
    candidates = read_yaml(HERE / "settings.yaml")
    for kind in kinds:
        for params in candidates[kind]:
            tried = read_json(RESULTS) if RESULTS.is_file() else []
            if not any(row["kind"] == kind and row["params"] == params for row in tried):
                row = {"kind": kind, "params": params, **try_out(kind, params)}
                tried = read_json(RESULTS) if RESULTS.is_file() else []
                write_json([*tried, row], RESULTS)
    print(table(read_json(RESULTS)))


def try_out(kind: str, params: dict[str, Any]) -> dict[str, float]:
    """Train and evaluate one candidate."""
    described = read_yaml(HERE / "methods.yaml")
    name = "_".join([kind, *(f"{key}-{value}" for key, value in params.items())])
    described["kinds"][kind]["cells"] = {name: {"params": {kind: params}}}
    validation = {"predict": {"judged_splits": ["validation"]}}
    laid = merge(overlay(described, kind, name, SEED), validation)
    root = prepare(described, kind, f"settings/{name}", SEED, laid)
    for command in (kind, "predict"):
        run(root, command)
    return judged(root)


def judged(root: Path) -> dict[str, float]:
    """Figures of a cell on the validation split."""
    items, pairs = (
        with_scores(read_table(path := root / f"data/validate/{name}.parquet", schema), path)
        for name, schema in (("items", ITEMS), ("pairs", PAIRS))
    )
    items = items[(items["split"] == "validation") & items["image_id"].notna()]
    reference = build_reference(items, pairs[pairs["split"] == "validation"], SEED)
    frame = pd.read_parquet(root / "data/predict/predictions.parquet")
    measured = measure(align_prediction(frame, reference, str(root)), reference)
    parts = {f"hpa_{name}": part["hpa"] for name, part in measured.items() if name != "overall"}
    return {name: measured["overall"][name] for name in FIGURES} | parts


def table(rows: list[dict[str, Any]]) -> str:
    """All results, as text."""
    frame = pd.DataFrame(rows).sort_values("kind", kind="stable")
    given = [", ".join(f"{key} {value}" for key, value in row.items()) for row in frame["params"]]
    frame["settings"] = [text or "params.yaml" for text in given]
    names = ["kind", "settings", *FIGURES, *(name for name in frame if name.startswith("hpa_"))]
    return frame[names].to_string(index=False, float_format="%.3f")


if __name__ == "__main__":
    main(sys.argv[1:])
