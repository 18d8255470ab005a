"""Plots of a comparison of methods. Each function saves one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zreward_core.evaluation.figures import (
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    save,
    step_axis,
    tidy,
)
from zreward_core.evaluation.plots import smooth

SIZE_COLOURS = {"teacher": PALETTE[1], "student": PALETTE[0]}


def plot_methods(
    rows: Sequence[Mapping[str, Any]], ceiling: float | None, title: str, path: Path
) -> None:
    """HPA of the methods with 95 % intervals, one dot per seed, and the ceiling.

    Args:
        rows: "method", "size", "hpa", "hpa_low", "hpa_high", "seeds" (HPA of each seed).
        ceiling: HPA of the noiseless oracle, or None.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        colour = SIZE_COLOURS.get(row["size"], GREY)
        bounds = [[row["hpa"] - row["hpa_low"]], [row["hpa_high"] - row["hpa"]]]
        errors = np.clip(bounds, 0, None)
        axes.errorbar(
            row["hpa"], position, xerr=errors, color=colour, fmt="D", capsize=4, linewidth=2
        )
        count = len(row["seeds"])
        spread = 0.25 + min(0.16, 0.5 / count) * np.arange(count)  # below the interval, one by one
        (dots,) = axes.plot(row["seeds"], position + spread, "o", color=colour, markersize=4.5)
        dots.set(alpha=0.7, markeredgewidth=0)
    if ceiling is not None:
        axes.axvline(ceiling, color="black", linewidth=1, label="pixel oracle (ceiling)")
    for size, colour in SIZE_COLOURS.items():
        if any(row["size"] == size for row in rows):
            axes.plot([], [], "D", color=colour, label=f"{size} size")
    axes.plot([], [], "o", color=GREY, markersize=4, label="a seed")
    axes.set_yticks(range(len(rows)), [row["method"] for row in rows])
    axes.set_ylim(len(rows) - 0.3, -0.6)
    axes.set(
        title=title, xlabel="HPA (share of pairs ordered as annotated), mean and 95 % interval"
    )
    tidy(axes)
    legend_below(figure, axes)
    save(figure, path)


def plot_training(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    metrics: Mapping[str, str],
    path: Path,
) -> None:
    """Training curves: one panel per metric, one line per method, averaged over seeds.

    Args:
        histories: method to the history of each seed; a method that does not log a metric is
            omitted from its panel.
        metrics: metric name to the name of the vertical axis, unit included.
        path: of the PNG.
    """
    figure = Figure(figsize=(min(WIDTH, 4.5 * len(metrics)), 3.6), layout="constrained")
    grid = figure.subplots(1, len(metrics), squeeze=False).ravel()
    for axes, (metric, title) in zip(grid, metrics.items(), strict=True):
        for index, (method, seeds) in enumerate(histories.items()):
            mean = _mean_over_seeds(seeds, metric)
            if mean.empty:
                continue
            smoothed = smooth(mean, max(1, len(mean) // 10))
            colour = PALETTE[index % len(PALETTE)]
            axes.plot(mean.index, smoothed, color=colour, label=method)
        axes.set_ylabel(title)
        step_axis(axes)
        tidy(axes)
    legend_below(figure, *grid, columns=6)
    save(figure, path)


def plot_matrix(
    matrices: Mapping[str, np.ndarray],
    kinds: Sequence[str],
    dimensions: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Points lost by kind of defect and dimension, one panel per judge, on a common scale.

    Args:
        matrices: judge to [K, D] points; NaN cells are blank.
        kinds: the K rows.
        dimensions: the D columns.
        title: of the figure.
        path: of the PNG.
    """
    columns = min(3, len(matrices))
    num_rows = -(-len(matrices) // columns)
    size = (min(WIDTH, 3 * columns + 1), (0.3 * len(kinds) + 1.3) * num_rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(num_rows, columns, squeeze=False, sharey=True)
    limit = max(float(np.nanmax(np.abs(matrix))) for matrix in matrices.values())
    for axes, (name, matrix) in zip(grid.ravel(), matrices.items(), strict=False):
        axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        for row, column in np.argwhere(~np.isnan(matrix)):
            value = matrix[row, column]
            colour = "white" if abs(value) > 0.6 * limit else "black"
            text = f"{value:.1f}".replace("-0.0", "0.0")
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_xticks(range(len(dimensions)), dimensions, rotation=30, ha="right")
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_title(name, fontsize=10)
        axes.tick_params(length=0)
    for axes in grid.ravel()[len(matrices) :]:
        axes.set_visible(False)
    for line in grid:
        line[0].set_ylabel("defect")
    figure.supxlabel("dimension", fontsize=10)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plot_tuning(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    judges: Mapping[str, str],
    parts: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Scores on the validation prompts over steps: one column per judge, one line per run.

    Args:
        histories: run to the history of each seed, rows with "step" and "JUDGE/PART" at
            validations; the mean is drawn over the steps that all seeds have reached.
        judges: judge to the column's title.
        parts: "mean" or a dimension, one row each.
        title: of the figure.
        path: of the PNG.
    """
    size = (min(WIDTH, 4.5 * len(judges)), 2.0 * len(parts) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(parts), len(judges), squeeze=False, sharex=True, sharey="row")
    for row, part in zip(grid, parts, strict=True):
        for axes, judge in zip(row, judges, strict=True):
            for index, (run, seeds) in enumerate(histories.items()):
                mean = _mean_over_seeds(seeds, f"{judge}/{part}")
                if len(mean):
                    axes.plot(mean, marker=".", color=PALETTE[index % len(PALETTE)], label=run)
            tidy(axes)
        row[0].set_ylabel(f"{part} (points)")
    for axes, label in zip(grid[0], judges.values(), strict=True):
        axes.set_title(label, fontsize=10)
    for axes in grid[-1]:
        step_axis(axes)
    legend_below(figure, *grid.ravel())
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def _mean_over_seeds(seeds: Sequence[Sequence[Mapping[str, float]]], metric: str) -> pd.Series:
    """Mean of a metric over the steps that all seeds have logged, indexed by step."""
    columns = [
        pd.Series({row["step"]: row[metric] for row in rows if metric in row}, dtype=float)
        for rows in seeds
    ]
    return pd.concat(columns, axis=1, join="inner").mean(axis=1).sort_index()
