"""The tables of the comparison: results.json, REPORT.md and its pictures.

Run by `make bench` when every cell has its predictions. Intervals are over prompts and seeds
together; differences are paired.
"""

import importlib
from pathlib import Path
from typing import Any

import pandas as pd

from zreward_core.config import merge, read_yaml
from zreward_core.evaluation.comparison import (
    Comparison,
    Runs,
    build_comparison,
    difference,
    measure_runs,
    summarise,
)
from zreward_core.evaluation.comparison_plots import plot_methods, plot_training
from zreward_core.evaluation.report import evaluate_predictions
from zreward_core.images import ImageStore
from zreward_core.runtime.loops import SupervisedConfig
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, PAIRS, read_table, write_json
from zreward_core.stages.evaluate import oracle_scores

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
METHODS, PREDICTIONS = HERE / "methods.yaml", HERE / "predictions"
RESULTS, REPORT, PICTURES = HERE / "results.json", HERE / "REPORT.md", HERE / "images"
FIGURES = ("hpa", "margin_hpa", "plcc", "srcc", "nll", "ece", "output_tokens", "num_pairs")
TITLES = {
    "main": "The compared methods",
    "reasoning": "The base, reasoning",
    "ablations": "What the teacher's objective needs",
    "targets": "What a student is taught by",
}
ORDERINGS = (
    ("gdso", "grpo"),
    ("grpo", "rewarddance"),
    ("rewarddance", "sft"),
    ("sft", "zero_shot"),
    ("gdso_student", "grpo_student"),
    ("grpo", "grpo_text"),
    ("gdso", "gdso_text"),
    ("risd", "opd"),
    ("risd", "gdso_student"),
    ("risd", "gdso"),
)
"""Cells whose difference in HPA is told: the first is expected above the second, but for the last,
a student and its teacher."""
CURVES = {"reward/mean": "Reward", "trace/length": "Tokens in a trace"}


def main() -> None:
    """Write the tables."""
    described = read_yaml(METHODS)
    seeds = described["seeds"]
    cells = {
        name: {**entry, "stage": stage}
        for stage, entries in described["cells"].items()
        for name, entry in (entries or {}).items()
        if "table" in entry
    }
    cells = dict(sorted(cells.items(), key=lambda cell: cell[1]["size"] == "student"))
    items, pairs = (
        read_table(DATA / "validate" / f"{name}.parquet", schema)
        for name, schema in (("items", ITEMS), ("pairs", PAIRS))
    )
    items = items[(items["split"] == "test") & items["image_id"].notna()]
    pairs = pairs[pairs["split"] == "test"]
    comparison = build_comparison(items, pairs, len(seeds))
    runs = {
        name: measure_runs(
            [pd.read_parquet(PREDICTIONS / name / str(s) / "predictions.parquet") for s in seeds],
            comparison,
            name,
        )
        for name in cells
    }
    bounds = references(items, pairs)
    write_json([*seed_rows(cells, runs, seeds), *bounds], RESULTS)
    project = read_yaml(HERE.parent / "params.yaml")
    summaries = {
        name: {
            **cells[name],
            **summarise(runs[name], comparison),
            "training": training(cells[name], project),
        }
        for name in cells
    }
    ceiling = next((row["hpa"] for row in bounds if row["method"] == "oracle"), None)
    draw(cells, runs, summaries, seeds, ceiling)
    REPORT.write_text(report(summaries, runs, comparison, bounds, seeds))


def seed_rows(
    cells: dict[str, dict], runs: dict[str, Runs], seeds: list[int]
) -> list[dict[str, Any]]:
    """A row for each cell and seed."""
    return [
        {
            **{key: cells[name][key] for key in ("table", "method", "size")},
            "seed": seed,
            **{figure: metrics[figure] for figure in FIGURES},
        }
        for name in cells
        for seed, metrics in zip(seeds, runs[name].metrics, strict=True)
    ]


def training(cell: dict[str, Any], project: dict[str, Any]) -> str:
    """What a method's training took, as its params say: steps, and what a step sees."""
    stage = cell["stage"]
    if stage == "predict":
        return ""
    section = merge(project.get(stage) or {}, cell["params"].get(stage, {}))
    config = importlib.import_module(f"zreward_core.stages.{stage}").Config(seed=0, **section)
    if isinstance(config, SupervisedConfig):
        return f"{config.steps} x {config.batch_size} pictures"
    inputs = 2 * config.pairs_per_step if hasattr(config, "pairs_per_step") else None
    number = (inputs or config.pictures_per_step) * config.group_size
    return f"{config.steps} x {number} traces"


def references(items: pd.DataFrame, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """What no method can be read without: the annotators among themselves, and the ceiling."""
    ratings = pd.read_parquet(DATA / "validate/test_ratings.parquet")
    oracle = None
    settings = read_yaml(HERE.parent / "params.yaml").get("evaluate", {})
    if settings.get("oracle", True):
        store = ImageStore(DATA / "candidates/images", DATA / "ingest/images")
        oracle = oracle_scores(items, store, settings.get("aspects", {}))
    found = evaluate_predictions({}, items, pairs, ratings=ratings, oracle=oracle)["reference"]
    return [
        {
            "table": "reference",
            "method": name,
            "size": None,
            "seed": None,
            **{figure: parts["overall"][figure] for figure in FIGURES},
        }
        for name, parts in found.items()
    ]


def draw(
    cells: dict[str, dict],
    runs: dict[str, Runs],
    summaries: dict[str, dict],
    seeds: list[int],
    ceiling: float | None,
) -> None:
    """The pictures."""
    for table in dict.fromkeys(cell["table"] for cell in cells.values()):
        rows = [
            {**summaries[name], "seeds": [metrics["hpa"] for metrics in runs[name].metrics]}
            for name, cell in cells.items()
            if cell["table"] == table
        ]
        plot_methods(rows, ceiling, TITLES[table], PICTURES / f"{table}.png")
    histories = {
        name: [read_history(PREDICTIONS / name / str(seed) / "history.jsonl") for seed in seeds]
        for name, cell in cells.items()
        if cell["stage"] in ("train_grpo", "train_gdso", "train_opd") and cell["table"] == "main"
    }
    if histories:
        plot_training(histories, CURVES, PICTURES / "training.png")


def report(
    summaries: dict[str, dict],
    runs: dict[str, Runs],
    comparison: Comparison,
    bounds: list[dict[str, Any]],
    seeds: list[int],
) -> str:
    """The page."""
    reference = comparison.reference
    num_prompts = reference.counts_RQ.shape[1]
    num_pairs = next(iter(runs.values())).metrics[0]["num_pairs"]
    lines = [
        "# The methods compared",
        "",
        f"Seeds: {len(seeds)}. Held-out prompts: {num_prompts}, pairs: {num_pairs}; 95 % "
        "intervals over prompts and seeds together. The bases are shared; a seed covers everything "
        "after them. Settings: `params.yaml` under `methods.yaml`; figures of each seed: "
        "`results.json`. Made by `make bench`.",
        "",
    ]
    tables = list(dict.fromkeys(row["table"] for row in summaries.values()))
    for table in tables:
        rows = [row for row in summaries.values() if row["table"] == table]
        lines += [f"## {TITLES[table]}", "", *markdown(rows, bounds), ""]
        lines += [f"![HPA by method, with intervals](images/{table}.png)", ""]
    told = [
        (first, second, difference(runs[first], runs[second], comparison))
        for first, second in ORDERINGS
        if first in runs and second in runs
    ]
    if told:
        lines += ["## In what order", "", "| | HPA points | decided |", "| --- | --- | --- |"]
        for first, second, gap in told:
            decided = "above" if gap.low > 0 else "below" if gap.high < 0 else "open"
            lines.append(
                f"| {words(first)} - {words(second)} | {100 * gap.value:+.1f} "
                f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] | {decided} |"
            )
        lines.append("")
    if (PICTURES / "training.png").is_file():
        lines += [
            "## Training",
            "",
            "![Reward and trace length over steps](images/training.png)",
            "",
        ]
    return "\n".join(lines)


def markdown(rows: list[dict[str, Any]], bounds: list[dict[str, Any]]) -> list[str]:
    """Rows of one table, the references below."""
    lines = [
        "| size | method | training | HPA | margin HPA | PLCC | SRCC | NLL | output tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in [*rows, *bounds]:
        cells = [
            row["size"] or "",
            words(row["method"]),
            row.get("training", ""),
            figure(row, "hpa"),
            figure(row, "margin_hpa"),
            figure(row, "plcc"),
            figure(row, "srcc"),
            figure(row, "nll", 2),
            "" if row["output_tokens"] is None else f"{row['output_tokens']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def figure(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """A figure, with its interval where it has one."""
    if row[name] is None:
        return ""
    text = f"{row[name]:.{digits}f}"
    if f"{name}_low" in row:
        text += f" [{row[f'{name}_low']:.{digits}f}, {row[f'{name}_high']:.{digits}f}]"
    return text


def words(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")


if __name__ == "__main__":
    main()
