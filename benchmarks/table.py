"""The tables of the comparison: results.json, REPORT.md and its images.

`make bench` runs it after all cells; run alone, it reports the finished cells and lists the missing
ones. Intervals are over prompts and seeds together; differences are paired.
Shapes: N items, K kinds of defect, D dimensions, S levels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cell import HERE, described_kind
from report import DEFECTS, TITLES, Study, words, write_report

from zreward_core import schemas
from zreward_core.config import read_yaml
from zreward_core.evaluation.bootstrap import Interval
from zreward_core.evaluation.calibration import fit_temperature, measure_calibration, tempered
from zreward_core.evaluation.comparison import (
    Comparison,
    Runs,
    build_comparison,
    differences,
    first_seeds,
    gsb_gain,
    measure_runs,
    predicted_by_all,
    summarise,
)
from zreward_core.evaluation.comparison_plots import (
    plot_matrix,
    plot_methods,
    plot_training,
    plot_tuning,
)
from zreward_core.evaluation.coupling import measure_coupling
from zreward_core.evaluation.defects import points_lost
from zreward_core.evaluation.preference import hpa
from zreward_core.evaluation.report import evaluate_predictions
from zreward_core.images import ImageStore
from zreward_core.rubric import load_rubric
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, PAIRS, read_json, read_table, with_scores, write_json
from zreward_core.stages.evaluate import oracle_scores
from zreward_core.stages.trace_faithfulness import READINGS
from zreward_core.world.oracle import judge
from zreward_core.world.prompts import CATEGORIES, category

DATA = HERE.parent / "data"
PREDICTIONS, RESULTS, IMAGES = HERE / "predictions", HERE / "results.json", HERE / "images"
FIGURES = ("hpa", "margin_hpa", "plcc", "srcc", "nll", "ece", "output_tokens", "num_pairs")
CURVES = {
    "reward/mean": "reward (each method's own)",
    "trace/length": "tokens in a trace",
    "trace/thorough": "share of thorough inspections",
}
JUDGES = {"reward": "reward (trained on)", "panel": "panel (teacher)", "oracle": "pixel oracle"}


def main() -> None:
    """Write the tables."""
    described = read_yaml(HERE / "methods.yaml")
    seeds = described["seeds"]
    measured = measured_cells(described)
    done = {name: seeds_done(name, seeds) for name in measured}
    cells = {name: cell for name, cell in measured.items() if "table" in cell and done[name]}
    cells = dict(sorted(cells.items(), key=lambda cell: cell[1]["size"] == "student"))
    items, pairs = (
        with_scores(read_table(path := DATA / "validate" / f"{name}.parquet", schema), path)
        for name, schema in (("items", ITEMS), ("pairs", PAIRS))
    )
    predictions = {
        name: [pd.read_parquet(kept(name, seed) / "predictions.parquet") for seed in done[name]]
        for name in cells
    }
    items = items[items["image_id"].notna() & items["split"].isin(["validation", "test"])]
    items = predicted_by_all(items, predictions)
    pairs = schemas.pairs_between(pairs, items["item_id"])
    test, test_pairs = (table[table["split"] == "test"] for table in (items, pairs))
    ratings = pd.read_parquet(DATA / "validate/test_ratings.parquet")
    comparisons = {
        count: build_comparison(test, test_pairs, count)
        for count in {*map(len, done.values())} - {0}
    }
    runs = {
        name: measure_runs(frames, comparisons[len(frames)], name)
        for name, frames in predictions.items()
    }
    bounds = references(test, test_pairs, ratings)
    rows = [
        {
            **{key: cells[name][key] for key in ("table", "method", "size")},
            "seed": seed,
            **{figure: runs[name].metrics[index][figure] for figure in (*FIGURES, "gap_error")},
            **calibration(predictions[name][index], items, ratings),
            **coupling(kept(name, seed)),
        }
        for name in cells
        for index, seed in enumerate(done[name])
    ]
    tuned = [
        tuning_row(name, seed)
        for name, cell in measured.items()
        if "table" not in cell
        for seed in done[name]
    ]
    write_json([*rows, *tuned, *bounds], RESULTS)
    remaining = iter(rows)
    summaries = {
        name: summarise(runs[name], comparisons[len(done[name])])
        | cells[name]
        | mean_row([next(remaining) for _ in done[name]])
        for name in cells
    }
    miniature = any(row["method"] == "oracle" for row in bounds)
    sensitive = {name: display_name(cells[name]) for name in described["defects"] if name in cells}
    matrices = sensitivities(test, predictions, sensitive) if miniature else {}
    by_dimension = {
        name: frames
        for name, frames in predictions.items()
        if described["tables"][cells[name]["table"]].get("by_dimension")
    }
    study = Study(
        seeds=seeds,
        summaries=summaries,
        bounds=bounds,
        orderings=[
            (first, second, gains(runs[first], runs[second], comparisons))
            for first, second in described["orderings"]
            if first in runs and second in runs
        ],
        parts=parts(test, test_pairs, by_dimension, miniature),
        tuned=tuned,
        preferred=[
            (*names, gain)
            for names in described["tuned_orderings"]
            if set(names) <= set(measured) and (gain := tuned_gain(*names, seeds))
        ],
        seconds={name: cost(name, done[name]) for name in cells},
        num_prompts=test_pairs["prompt_id"].nunique(),
        has_matrix=bool(matrices),
        missing={name: len(done[name]) for name in measured if len(done[name]) < len(seeds)},
    )
    draw(study, {name: [m["hpa"] for m in runs[name].metrics] for name in runs})
    write_report(study, HERE)


def measured_cells(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Cells with a table, and tuned generators (those without): name to entry and its stage.

    The stage is the training stage of the cell's kind; the kind itself if it has none.
    """
    cells: dict[str, dict[str, Any]] = {}
    for kind in described["kinds"]:
        found = described_kind(described, kind)
        stage = next((name for name in found["stages"] if name.startswith("train_")), kind)
        tunes = "finetune_generator" in found["stages"]
        for name, entry in found["cells"].items():
            if tunes or "table" in entry:
                cells[name] = {**entry, "stage": stage}
    return cells


def display_name(cell: dict[str, Any]) -> str:
    """Display name of a cell."""
    return cell.get("title", words(cell["method"]))


def kept(name: str, seed: int) -> Path:
    """Folder of a cell's results."""
    return PREDICTIONS / name / str(seed)


def seeds_done(name: str, seeds: list[int]) -> list[int]:
    """The finished seeds of a cell, up to the first missing one."""
    there = [(kept(name, seed) / "seconds.json").is_file() for seed in seeds]
    return seeds[: (*there, False).index(False)]


def gains(first: Runs, second: Runs, comparisons: Mapping[int, Comparison]) -> dict[str, Interval]:
    """Figures of the first method minus those of the second, over the seeds that both have."""
    count = min(len(first.metrics), len(second.metrics))
    return differences(first_seeds(first, count), first_seeds(second, count), comparisons[count])


def mean_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds; None if a seed has no value."""
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if all(isinstance(value, int | float) for value in values):
            means[name] = float(np.mean(values))
        elif None in values:
            means[name] = None
    return means


def references(
    items: pd.DataFrame, pairs: pd.DataFrame, ratings: pd.DataFrame
) -> list[dict[str, Any]]:
    """Bounds of every method: agreement among annotators, and the pixel oracle as the ceiling."""
    oracle = None
    settings = read_yaml(HERE.parent / "params.yaml").get("evaluate", {})
    if settings.get("oracle", True):
        oracle = oracle_scores(items, images(), settings.get("aspects", {}))
    found = evaluate_predictions({}, items, pairs, ratings=ratings, oracle=oracle)["reference"]
    return [
        {
            "table": "reference",
            "method": name,
            "size": None,
            "seed": None,
            **{figure: measured["overall"][figure] for figure in FIGURES},
        }
        for name, measured in found.items()
    ]


def images() -> ImageStore:
    """The images of all items."""
    return ImageStore(DATA / "candidates/images", DATA / "ingest/images")


def calibration(
    predictions: pd.DataFrame, items: pd.DataFrame, ratings: pd.DataFrame
) -> dict[str, float]:
    """Calibration against all ratings of the test items, before and after temperature scaling.

    The temperature is fitted on the validation items. Test histograms include all annotators; the
    trimming that applies to test scores does not apply here.
    """
    rubric = load_rubric(DATA / "rubric.yaml")
    merged = items[["item_id", "dimension", "split", "histogram"]].merge(
        predictions[["item_id", "dimension", "probs"]], on=["item_id", "dimension"]
    )
    own = ratings.groupby(["item_id", "dimension"])["score"].apply(
        lambda scores: rubric.histogram(scores.to_numpy())
    )
    is_test = merged["split"] == "test"
    test, validation = merged[is_test], merged[merged["split"] == "validation"]
    keys = pd.MultiIndex.from_frame(test[["item_id", "dimension"]])
    probs, histogram = np.stack(test["probs"].to_list()), np.stack(own.loc[keys].to_list())
    levels = np.asarray(rubric.levels)
    found = measure_calibration(probs, histogram, levels)
    if validation.empty:
        return found
    temperature = fit_temperature(
        np.stack(validation["probs"].to_list()), np.stack(validation["histogram"].to_list())
    )
    after = measure_calibration(tempered(probs, temperature), histogram, levels)
    return (
        found
        | {"temperature": temperature}
        | {f"{name}_tempered": value for name, value in after.items()}
    )


def coupling(folder: Path) -> dict[str, Any]:
    """Trace faithfulness of a cell; empty if the model doesn't reason."""
    if not (folder / "coupling.parquet").is_file():
        return {}
    scores = pd.read_parquet(folder / "coupling.parquet")
    columns = (*READINGS, "direction")
    found = measure_coupling(*(scores[name].to_numpy().reshape(-1, 2) for name in columns))
    return {name: found[name] for name in found if not name.startswith("num_")}


def parts(
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    predictions: Mapping[str, list[pd.DataFrame]],
    miniature: bool,
) -> dict[str, dict[str, float]]:
    """HPA by dimension, and in the miniature of the first one by category of the prompt."""
    groups = {name: pairs["dimension"] == name for name in load_rubric(DATA / "rubric.yaml").names}
    if miniature:
        prompts = items.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
        kinds = pairs["prompt_id"].map(prompts).map(category)
        first = next(iter(groups))
        masks = {kind: groups[first] & (kinds == kind) for kind in CATEGORIES}
        groups |= {f"{first}, {kind} ({mask.sum()})": mask for kind, mask in masks.items()}
    found: dict[str, dict[str, float]] = {}
    for name, frames in predictions.items():
        means = [frame.set_index(["item_id", "dimension"])["mean"] for frame in frames]
        found[name] = {}
        for group, mask in groups.items():
            chosen = pairs[mask]
            sides = [
                pd.MultiIndex.from_frame(chosen[[side, "dimension"]])
                for side in ("winner", "loser")
            ]
            scores = chosen["score_w"].to_numpy(), chosen["score_l"].to_numpy()
            values = [
                hpa(*(mean.loc[side].to_numpy() for side in sides), *scores) for mean in means
            ]
            found[name][group] = float(np.mean(values))
    return found


def sensitivities(
    items: pd.DataFrame, predictions: Mapping[str, list[pd.DataFrame]], titles: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Points lost [K, D] for each kind of defect, by judge, on the test images.

    Severities are those measured by the pixel oracle.

    Args:
        titles: cell to its name in the plot.
    """
    shown = items.drop_duplicates("item_id").set_index("item_id")
    store = images()
    found = [judge(store.pixels(row.image_id), row.prompt) for row in shown.itertuples()]
    severities = pd.DataFrame([one.severities for one in found], index=shown.index)
    names = load_rubric(DATA / "rubric.yaml").names
    tables = {
        "annotators": items.pivot(index="item_id", columns="dimension", values="score"),
        "pixel oracle": pd.DataFrame([one.scores for one in found], index=shown.index),
    }
    for name, title in titles.items():
        every = pd.concat(predictions[name]).groupby(["item_id", "dimension"])["mean"].mean()
        tables[title] = every.unstack()
    matrices = {
        title: points_lost(table.loc[shown.index, names].to_numpy(), severities.to_numpy())
        for title, table in tables.items()
    }
    plot_matrix(
        matrices,
        [DEFECTS[kind] for kind in severities.columns],
        names,
        "Points lost for one level of a defect, or one cell",
        IMAGES / "defects.png",
    )
    return matrices


def tuning_row(name: str, seed: int) -> dict[str, Any]:
    """Results of a tuned generator: gains by each judge, and the blind comparison."""
    metrics, gsb = (read_json(kept(name, seed) / f"{file}.json") for file in ("metrics", "gsb"))
    history = read_history(kept(name, seed) / "history.jsonl")
    row: dict[str, Any] = {"table": "tuning", "method": name, "size": "student", "seed": seed}
    for who, measured in metrics.items():
        mean = measured["mean"]
        row[f"{who}_gain"] = mean["after"] - mean["before"]
        row[f"{who}_low"], row[f"{who}_high"] = mean["low"], mean["high"]
    overall = gsb["overall"]
    row |= {"gsb": overall["gsb"], "gsb_low": overall["low"], "gsb_high": overall["high"]}
    return row | {"steps": max(entry["step"] for entry in history)}


def tuned_gain(first: str, second: str, seeds: list[int]) -> Interval | None:
    """GSB of the first run minus that of the second, over the seeds that both have."""
    both = [seed for seed in seeds_done(first, seeds) if seed in seeds_done(second, seeds)]
    tables = (
        [pd.read_parquet(kept(name, seed) / "judgements.parquet") for seed in both]
        for name in (first, second)
    )
    return gsb_gain(*tables) if both else None


def cost(name: str, seeds: list[int]) -> float:
    """Mean seconds of a cell."""
    return float(np.mean([sum(read_json(kept(name, s) / "seconds.json").values()) for s in seeds]))


def draw(study: Study, hpa_by_seed: Mapping[str, list[float]]) -> None:
    """The images."""
    ceiling = next((row["hpa"] for row in study.bounds if row["method"] == "oracle"), None)
    for table, title in TITLES.items():
        rows = [
            {**row, "method": words(row["method"]), "seeds": hpa_by_seed[name]}
            for name, row in study.rows(table).items()
        ]
        if rows:
            plot_methods(rows, ceiling, title, IMAGES / f"{table}.png")
    histories = {
        words(name): [
            read_history(kept(name, seed) / "history.jsonl")
            for seed in study.seeds[: row["num_seeds"]]
        ]
        for name, row in study.summaries.items()
        if row["table"] == "main" and row["stage"].startswith("train_")
    }
    histories = {name: runs for name, runs in histories.items() if "trace/length" in runs[0][0]}
    if histories:
        plot_training(histories, CURVES, IMAGES / "training.png")
    runs: dict[str, list[list[dict[str, float]]]] = {}
    for row in study.tuned:
        history = read_history(kept(row["method"], row["seed"]) / "history.jsonl")
        runs.setdefault(words(row["method"]), []).append(history)
    if runs:
        names = ("mean", *load_rubric(DATA / "rubric.yaml").names)
        title = "Mean scores on watched prompts"
        plot_tuning(runs, JUDGES, names, title, IMAGES / "tuning.png")


if __name__ == "__main__":
    main()
