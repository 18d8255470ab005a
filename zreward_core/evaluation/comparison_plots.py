"""Charts of a comparison of methods. Each function saves one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from zreward_core.evaluation.figures import GREY, PALETTE, save, tidy
from zreward_core.evaluation.plots import smooth

SIZE_COLOURS = {"teacher": PALETTE[1], "student": PALETTE[0]}


def plot_methods(
    rows: Sequence[Mapping[str, Any]], ceiling: float | None, title: str, path: Path
) -> None:
    """HPA of methods with their intervals, a dot for each seed, the ceiling beside.

    Args:
        rows: "method", "size", "hpa", "hpa_low", "hpa_high" and "seeds" (HPA of each), in order.
        ceiling: HPA of the noiseless oracle, where there is one.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(0.75 * len(rows) + 2.2, 4.0))
    axes = figure.subplots()
    for position, row in enumerate(rows):
        colour = SIZE_COLOURS.get(row["size"], GREY)
        bounds = [[row["hpa"] - row["hpa_low"]], [row["hpa_high"] - row["hpa"]]]
        errors = np.clip(bounds, 0, None)
        axes.errorbar(position, row["hpa"], errors, color=colour, fmt="o", capsize=4, linewidth=2)
        spread = np.linspace(-0.18, 0.18, len(row["seeds"])) if len(row["seeds"]) > 1 else [0.0]
        axes.scatter(position + np.asarray(spread), row["seeds"], color=colour, s=9, alpha=0.5)
    if ceiling is not None:
        axes.axhline(ceiling, color="black", linewidth=1, label="oracle (ceiling)")
    for size, colour in SIZE_COLOURS.items():
        if any(row["size"] == size for row in rows):
            axes.scatter([], [], color=colour, label=f"{size}'s size")
    names = [row["method"].replace("_", " ") for row in rows]
    axes.set_xticks(range(len(rows)), names, rotation=40, ha="right")
    axes.set(title=title, ylabel="human preference accuracy (HPA)")
    tidy(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save(figure, path)


def plot_training(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    metrics: Mapping[str, str],
    path: Path,
) -> None:
    """Course of the training: a panel for each metric, a line for each method, the mean of seeds.

    Args:
        histories: method to the history of each seed; a method without a metric is left out of
            its panel.
        metrics: metric name to the panel's title.
        path: of the PNG.
    """
    figure = Figure(figsize=(4.4 * len(metrics) + 1.4, 3.4), layout="constrained")
    grid = figure.subplots(1, len(metrics), squeeze=False).ravel()
    for axes, (metric, title) in zip(grid, metrics.items(), strict=True):
        for index, (method, seeds) in enumerate(histories.items()):
            series = [[row[metric] for row in rows if metric in row] for rows in seeds]
            length = min((len(values) for values in series), default=0)
            if not length:
                continue
            mean = np.mean([values[:length] for values in series], axis=0)
            steps = [row["step"] for row in seeds[0] if metric in row][:length]
            colour = PALETTE[index % len(PALETTE)]
            label = method.replace("_", " ")
            axes.plot(steps, smooth(mean, max(1, length // 10)), color=colour, label=label)
        axes.set(title=title, xlabel="step")
        tidy(axes)
    drawn = {line.get_label(): line for axes in grid for line in axes.get_lines()}
    known = [name for name in (method.replace("_", " ") for method in histories) if name in drawn]
    handles = [drawn[name] for name in known]
    grid[-1].legend(handles, known, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    save(figure, path)


def plot_matrix(
    matrices: Mapping[str, np.ndarray],
    kinds: Sequence[str],
    dimensions: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Points lost by kind of defect and dimension, a panel for each judge, all on one scale.

    Args:
        matrices: judge to [K, D] points; NaN is left blank.
        kinds: the K rows.
        dimensions: the D columns.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(2.1 * len(matrices) + 1.6, 0.36 * len(kinds) + 1.8))
    grid = figure.subplots(1, len(matrices), squeeze=False, sharey=True).ravel()
    limit = max(float(np.nanmax(np.abs(matrix))) for matrix in matrices.values())
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=True):
        axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        for row, column in np.argwhere(~np.isnan(matrix)):
            value = matrix[row, column]
            colour = "white" if abs(value) > 0.6 * limit else "black"
            text = f"{value:.1f}".replace("-0.0", "0.0")
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(dimensions)), dimensions, rotation=40, ha="right")
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_title(name, fontsize=10)
        axes.tick_params(length=0)
    figure.suptitle(title, fontsize=12, y=0.98)
    save(figure, path)


def plot_tuning(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    judges: Mapping[str, str],
    parts: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Scores on watched prompts over steps: a column for each judge, a line for each run.

    Args:
        histories: run to the history of each seed, rows with "step" and "JUDGE/PART" at
            validations; the mean is drawn as far as all seeds come.
        judges: judge to the column's title.
        parts: what the rows show: "mean" or a dimension.
        title: of the figure.
        path: of the PNG.
    """
    size = (3.4 * len(judges) + 1.6, 2.1 * len(parts) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(parts), len(judges), squeeze=False, sharex=True, sharey="row")
    for row, part in zip(grid, parts, strict=True):
        for axes, judge in zip(row, judges, strict=True):
            name = f"{judge}/{part}"
            for index, (run, seeds) in enumerate(histories.items()):
                found = [{row["step"]: row[name] for row in rows if name in row} for rows in seeds]
                steps = sorted(set.intersection(*map(set, found)))
                mean = [np.mean([values[step] for values in found]) for step in steps]
                if steps:
                    colour = PALETTE[index % len(PALETTE)]
                    axes.plot(steps, mean, marker=".", color=colour, label=run)
            tidy(axes)
        row[0].set_ylabel(f"{part} (points)")
    for axes, label in zip(grid[0], judges.values(), strict=True):
        axes.set_title(label)
    for axes in grid[-1]:
        axes.set_xlabel("step")
    lines = grid[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside right upper", frameon=False)
    figure.suptitle(title, fontsize=12)
    save(figure, path)
