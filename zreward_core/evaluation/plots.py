"""Plots of an evaluation and of a training run. Each function saves one PNG.

Shapes: N items, S score levels, B bins.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binned_statistic

from zreward_core.evaluation.figures import GREY, PALETTE, legend_beside, save, tidy

MODEL_COLOURS = {
    "zero_shot": PALETTE[4],
    "zero_shot_reasoning": PALETTE[6],
    "teacher": PALETTE[1],
    "student": PALETTE[0],
}
FLAT = 1e-6
"""Range below which a curve is drawn as constant, so that rounding errors are not magnified."""


def plot_reliability(
    predicted: Mapping[str, np.ndarray],
    scores_N: np.ndarray,
    levels: Sequence[float],
    path: Path,
    num_bins: int = 8,
) -> None:
    """Reliability diagram: mean annotated score in bins of the predicted score, with bin counts.

    Args:
        predicted: MODEL to [N] expected scores.
        scores_N: [N] annotated scores.
        levels: the S scores of the rubric.
        path: of the PNG.
        num_bins: B equal-width bins over the scale.
    """
    figure = Figure(figsize=(7.2, 6.2))
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    low, high = levels[0], levels[-1]
    colours = [_colour(name, index) for index, name in enumerate(predicted)]
    curve.plot([low, high], [low, high], color=GREY, linestyle="--", label="perfect calibration")
    for colour, (name, means_N) in zip(colours, predicted.items(), strict=True):
        bins = {"bins": num_bins, "range": (low, high)}
        (means_B, scores_B), *_ = binned_statistic(means_N, [means_N, scores_N], "mean", **bins)
        used_B = ~np.isnan(means_B)
        curve.plot(means_B[used_B], scores_B[used_B], marker="o", color=colour, label=_title(name))
    counts.hist(list(predicted.values()), num_bins, range=(low, high), color=colours)
    curve.set(
        title="Reliability of the predicted scores",
        ylabel="mean annotated score (rubric points)",
        ylim=(low - 0.1, high + 0.1),
    )
    counts.set(xlabel="predicted score (rubric points)", ylabel="items per bin")
    for axes in (curve, counts):
        tidy(axes)
    legend_beside(curve)
    save(figure, path)


def plot_curves(
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, str],
    title: str,
    path: Path,
    window: int = 0,
) -> None:
    """Training curves: one panel per metric, raw values in a light line, smoothed in a dark one.

    Args:
        history: rows with "step" and metric names; a row may lack a metric.
        metrics: metric name to the panel's title, unit included.
        title: of the figure.
        path: of the PNG.
        window: steps of the running mean; 0 uses a tenth of the rows.
    """
    columns = min(3, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    figure = Figure(figsize=(4.0 * columns, 2.7 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, label) in zip(grid, metrics.items(), strict=False):
        _curve(axes, history, metric, window)
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("step")
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plot_dimensions(
    history: Sequence[Mapping[str, float]],
    prefixes: Mapping[str, str],
    dimensions: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Score by dimension over steps, one panel per judge (trained reward, panel).

    Args:
        history: rows with "step" and "PREFIX/DIMENSION".
        prefixes: prefix to the panel's title, e.g. {"reward": "reward (trained on)"}.
        dimensions: the D names, one line each; their mean is drawn in black.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(4.6 * len(prefixes) + 1.2, 3.8), layout="constrained")
    grid = figure.subplots(1, len(prefixes), squeeze=False).ravel()
    for axes, (prefix, label) in zip(grid, prefixes.items(), strict=True):
        lines = {name: _series(history, f"{prefix}/{name}") for name in dimensions}
        for index, (name, values) in enumerate(lines.items()):
            axes.plot(values, marker=".", color=PALETTE[index % 6], label=name)
        mean = pd.DataFrame(lines).dropna().mean(axis=1)
        if len(mean):
            axes.plot(mean, color="black", linewidth=2.4, label="mean")
        axes.set(title=label, xlabel="step", ylabel="score (rubric points)")
        tidy(axes)
    legend_beside(grid[-1])
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plot_hpa(metrics: Mapping[str, Any], dimensions: Sequence[str], path: Path) -> None:
    """HPA by model and dimension with 95 % intervals, with annotator agreement and the ceiling.

    Args:
        metrics: result of ``evaluate_predictions``.
        dimensions: the D names; "overall" precedes them.
        path: of the PNG.
    """
    groups = ["overall", *dimensions]
    models = metrics["models"]
    figure = Figure(figsize=(1.6 * len(groups) + 1.5, 4.0))
    axes = figure.subplots()
    width = 0.8 / max(1, len(models))
    for index, (name, parts) in enumerate(models.items()):
        hpa, low, high = np.array(
            [[parts[group][key] for group in groups] for key in ("hpa", "hpa_low", "hpa_high")],
            dtype=float,
        )
        centres = np.arange(len(groups)) + (index - (len(models) - 1) / 2) * width
        errors = np.clip([hpa - low, high - hpa], 0, None)
        axes.bar(centres, hpa, width * 0.92, color=_colour(name, index), label=_title(name))
        axes.errorbar(centres, hpa, errors, fmt="none", ecolor="#333333", capsize=2, elinewidth=1)
    lines = (
        ("oracle", "oracle (ceiling)", "black", "-"),
        ("annotator_agreement", "annotators, split halves", PALETTE[5], "--"),
    )
    for key, label, colour, style in lines:
        found = metrics["reference"].get(key, {})
        at = [i for i, group in enumerate(groups) if found.get(group, {}).get("hpa") is not None]
        if at:
            values, left = [found[groups[i]]["hpa"] for i in at], np.array(at) - 0.44
            axes.hlines(values, left, left + 0.88, color=colour, linestyle=style, label=label)
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(range(len(groups)), groups)
    axes.set(
        title="Agreement with the annotators on image pairs",
        ylabel="human preference accuracy (HPA)",
        ylim=(0, 1.02),
    )
    tidy(axes)
    axes.grid(False, axis="x")
    legend_beside(axes)
    save(figure, path)


def smooth(values: Sequence[float] | pd.Series, window: int) -> np.ndarray:
    """Centred running mean over ``window`` values, fewer at the ends."""
    return pd.Series(values).rolling(window, min_periods=1, center=True).mean().to_numpy()


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], metric: str, window: int) -> None:
    values = _series(history, metric)
    tidy(axes)
    if values.empty:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=GREY)
        return
    axes.plot(values, color=PALETTE[0], alpha=0.3, linewidth=1, marker=".", markersize=2)
    smoothed = smooth(values, window or max(1, len(values) // 10))
    axes.plot(values.index, smoothed, color=PALETTE[0], linewidth=2)
    axes.ticklabel_format(axis="y", useOffset=False)
    if np.ptp(values) < FLAT:
        axes.set_ylim(values.iloc[0] - 0.5, values.iloc[0] + 0.5)


def _series(history: Sequence[Mapping[str, float]], metric: str) -> pd.Series:
    """The logged values of a metric, indexed by step."""
    rows = {row["step"]: row[metric] for row in history if row.get(metric) is not None}
    return pd.Series(rows, dtype=float)


def _colour(name: str, index: int) -> str:
    return MODEL_COLOURS.get(name, PALETTE[index % len(PALETTE)])


def _title(name: str) -> str:
    return name.replace("_", " ").replace("zero shot", "zero-shot")
