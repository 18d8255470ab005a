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

from zreward_core.evaluation.figures import (
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    save,
    step_axis,
    tidy,
)

MODEL_COLOURS = {
    "zero_shot": PALETTE[4],
    "zero_shot_reasoning": PALETTE[6],
    "teacher": PALETTE[1],
    "student": PALETTE[0],
}
NUM_BINS = 8
"""Equal-width bins of the reliability diagram, over the scale."""
FEW = 20
"""Fewer predictions in a bin make its mean uncertain; fewer points of a curve are marked."""
FLAT = 1e-6
"""Range below which a curve is drawn as constant, so that rounding errors are not magnified."""


def plot_reliability(
    predicted: Mapping[str, np.ndarray],
    scores_N: np.ndarray,
    levels: Sequence[float],
    path: Path,
) -> None:
    """Reliability diagram: mean annotated score in bins of the predicted score.

    Below it, the number of predictions in each bin. Bins with fewer than ``FEW`` are hollow.

    Args:
        predicted: MODEL to [N] expected scores.
        scores_N: [N] annotated scores.
        levels: the S scores of the rubric.
        path: of the PNG.
    """
    figure = Figure(figsize=(7.0, 7.0), layout="constrained")
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    low, high = levels[0], levels[-1]
    colours = [_colour(name, index) for index, name in enumerate(predicted)]
    curve.plot([low, high], [low, high], color=GREY, linestyle="--", label="perfect calibration")
    for colour, (name, means_N) in zip(colours, predicted.items(), strict=True):
        (means_B, scores_B), *_ = binned_statistic(
            means_N, [means_N, scores_N], "mean", NUM_BINS, (low, high)
        )
        counts_B, _ = np.histogram(means_N, NUM_BINS, (low, high))
        curve.plot(means_B[counts_B > 0], scores_B[counts_B > 0], color=colour, label=_title(name))
        for enough_B, face in ((counts_B >= FEW, colour), (counts_B < FEW, "white")):
            curve.plot(means_B[enough_B], scores_B[enough_B], "o", color=colour, mfc=face)
    counts.hist(list(predicted.values()), NUM_BINS, range=(low, high), color=colours)
    curve.set(
        title=f"Reliability of the predicted scores (hollow: fewer than {FEW} predictions)",
        ylabel="mean annotated score (points)",
        ylim=(low - 0.1, high + 0.1),
    )
    counts.set(xlabel="predicted score (points)", ylabel="number of predictions")
    counts.set_xticks(np.linspace(low, high, NUM_BINS + 1))
    for axes in (curve, counts):
        tidy(axes)
    legend_below(figure, curve, columns=3)
    save(figure, path)


def plot_curves(
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, str],
    title: str,
    path: Path,
) -> None:
    """Training curves: one panel per metric, raw values in a light line, smoothed in a dark one.

    The dark line is the running mean over a tenth of the rows.

    Args:
        history: rows with "step" and metric names; a row may lack a metric.
        metrics: metric name to the name of the vertical axis, unit included.
        title: of the figure.
        path: of the PNG.
    """
    columns = 2 if len(metrics) == 4 else min(3, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    size = (min(WIDTH, 4.5 * columns), 2.5 * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, label) in zip(grid, metrics.items(), strict=False):
        _curve(axes, history, metric)
        axes.set_ylabel(label, fontsize=9)
        step_axis(axes)
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
    figure = Figure(figsize=(min(WIDTH, 4.5 * len(prefixes)), 3.8), layout="constrained")
    grid = figure.subplots(1, len(prefixes), squeeze=False, sharey=True).ravel()
    for axes, (prefix, label) in zip(grid, prefixes.items(), strict=True):
        lines = {name: _series(history, f"{prefix}/{name}") for name in dimensions}
        for index, (name, values) in enumerate(lines.items()):
            axes.plot(values, marker=".", color=PALETTE[index % 6], label=name)
        mean = pd.DataFrame(lines).dropna().mean(axis=1)
        if len(mean):
            axes.plot(mean, color="black", linewidth=2.4, label="mean")
        axes.set_title(label, fontsize=10)
        step_axis(axes)
        tidy(axes)
    grid[0].set_ylabel("score (points)")
    legend_below(figure, grid[-1], columns=6)
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
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
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
        ("oracle", "pixel oracle (ceiling)", "black", "-"),
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
        xlabel="dimension",
        ylabel="HPA (share of pairs ordered as annotated)",
        ylim=(0, 1.02),
    )
    tidy(axes)
    axes.grid(False, axis="x")
    legend_below(figure, axes)
    save(figure, path)


def smooth(values: Sequence[float] | pd.Series, window: int) -> np.ndarray:
    """Running mean over ``window`` values, centred; fewer at the end.

    At the start the window shrinks at both sides, so that a steep start is not flattened.
    """
    sums, at = np.cumsum([0.0, *values]), np.arange(len(values))
    half = np.minimum(at, window // 2)
    first, end = at - half, np.minimum(at + half + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], metric: str) -> None:
    values = _series(history, metric)
    tidy(axes)
    if values.empty:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=GREY)
        return
    size = 2 if len(values) > FEW else 7
    axes.plot(values, color=PALETTE[0], alpha=0.3, linewidth=1, marker=".", markersize=size)
    smoothed = smooth(values, max(1, len(values) // 10))
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
    return name.replace("zero_shot_", "zero-shot, ").replace("zero_shot", "zero-shot")
