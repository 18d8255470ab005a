"""Charts of an evaluation and of a training run. Each function saves one PNG.

Shapes: N items, S score levels.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zreward_core.evaluation.figures import GREY, PALETTE, save, tidy

MODEL_COLOURS = {
    "zero_shot": PALETTE[4],
    "zero_shot_reasoning": PALETTE[6],
    "teacher": PALETTE[1],
    "student": PALETTE[0],
}
FLAT = 1e-6
"""A curve that varies less is drawn as a flat line, not as its rounding errors."""


def plot_reliability(
    predicted: Mapping[str, np.ndarray],
    scores_N: np.ndarray,
    levels: Sequence[float],
    path: Path,
    num_bins: int = 8,
) -> None:
    """Reliability: in bins of the predicted mean, the mean that annotators gave; counts below.

    Args:
        predicted: MODEL to [N] expected scores.
        scores_N: [N] annotated scores.
        levels: the S scores of the rubric.
        path: of the PNG.
        num_bins: equal-width bins over the scale.
    """
    figure = Figure(figsize=(7.2, 6.2))
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    low, high = levels[0], levels[-1]
    edges = np.linspace(low, high, num_bins + 1)
    width = (edges[1] - edges[0]) / (len(predicted) + 1)
    curve.plot([low, high], [low, high], color=GREY, linestyle="--", label="perfect calibration")
    for index, (name, means_N) in enumerate(predicted.items()):
        bins_N = np.clip(np.digitize(means_N, edges) - 1, 0, num_bins - 1)
        sizes = np.bincount(bins_N, minlength=num_bins)
        used = sizes > 0
        centres = np.bincount(bins_N, weights=means_N, minlength=num_bins)[used] / sizes[used]
        observed = np.bincount(bins_N, weights=scores_N, minlength=num_bins)[used] / sizes[used]
        colour = _colour(name, index)
        curve.plot(centres, observed, marker="o", color=colour, label=_title(name))
        offset = (index - (len(predicted) - 1) / 2) * width
        counts.bar((edges[:-1] + edges[1:]) / 2 + offset, sizes, width, color=colour)
    curve.set(
        title="Are the predicted scores calibrated?",
        ylabel="mean annotated score (rubric points)",
        ylim=(low - 0.1, high + 0.1),
    )
    counts.set(xlabel="predicted score (rubric points)", ylabel="items in bin")
    for axes in (curve, counts):
        tidy(axes)
    curve.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save(figure, path)


def plot_curves(
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, str],
    title: str,
    path: Path,
    window: int = 0,
) -> None:
    """Training curves: a panel for each metric, raw in a light line, smoothed in a dark one.

    Args:
        history: rows with "step" and metric names; a row may lack a metric.
        metrics: metric name to the panel's title, unit included.
        title: of the figure.
        path: of the PNG.
        window: steps of the running mean; 0 chooses a tenth of the rows.
    """
    columns = min(3, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    figure = Figure(figsize=(4.0 * columns, 2.7 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, label) in zip(grid, metrics.items(), strict=False):
        _curve(axes, history, metric, PALETTE[0], window)
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("step")
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plot_trace_length(
    history: Sequence[Mapping[str, float]], metric: str, path: Path, window: int = 0
) -> None:
    """Length of the teacher's reasoning over training steps, in tokens."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    _curve(axes, history, metric, PALETTE[2], window)
    axes.set(
        title="How long does the teacher reason?",
        xlabel="training step",
        ylabel="tokens in a trace (mean)",
    )
    axes.set_ylim(bottom=0)
    save(figure, path)


def plot_dimensions(
    history: Sequence[Mapping[str, float]],
    prefixes: Mapping[str, str],
    dimensions: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """A score by dimension over steps, one panel for each judge (trained reward, panel).

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
        for index, dimension in enumerate(dimensions):
            steps, values = _series(history, f"{prefix}/{dimension}")
            axes.plot(steps, values, marker=".", color=PALETTE[index % 6], label=dimension)
        means = [
            (row["step"], np.mean([row[f"{prefix}/{name}"] for name in dimensions]))
            for row in history
            if all(f"{prefix}/{name}" in row for name in dimensions)
        ]
        if means:
            axes.plot(*zip(*means, strict=True), color="black", linewidth=2.4, label="mean")
        axes.set(title=label, xlabel="step", ylabel="score (rubric points)")
        tidy(axes)
    grid[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plot_hpa(metrics: Mapping[str, Any], dimensions: Sequence[str], path: Path) -> None:
    """HPA by model and dimension with 95 % intervals, beside the annotators and the ceiling.

    Args:
        metrics: result of ``evaluate_predictions``.
        dimensions: the D names; "overall" stands before them.
        path: of the PNG.
    """
    groups = ["overall", *dimensions]
    models = metrics["models"]
    figure = Figure(figsize=(1.6 * len(groups) + 1.5, 4.0))
    axes = figure.subplots()
    width = 0.8 / max(1, len(models))
    for index, (name, parts) in enumerate(models.items()):
        for position, group in enumerate(groups):
            entry = parts[group]
            if entry["hpa"] is None:
                continue
            centre = position + (index - (len(models) - 1) / 2) * width
            label = _title(name) if position == 0 else ""
            axes.bar(centre, entry["hpa"], width * 0.92, color=_colour(name, index), label=label)
            bounds = [[entry["hpa"] - entry["hpa_low"]], [entry["hpa_high"] - entry["hpa"]]]
            errors = np.clip(bounds, 0, None)
            axes.errorbar(centre, entry["hpa"], errors, color="#333333", capsize=2, linewidth=1)
    lines = (
        ("oracle", "oracle (ceiling)", "black", "-"),
        ("annotator_agreement", "annotators, half against half", PALETTE[5], "--"),
    )
    for key, label, colour, style in lines:
        values = [metrics["reference"].get(key, {}).get(group, {}).get("hpa") for group in groups]
        for position, value in enumerate(values):
            if value is not None:
                ends = (position - 0.44, position + 0.44)
                axes.hlines(value, *ends, color=colour, linestyle=style, label=label)
                label = ""
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(range(len(groups)), groups)
    axes.set(
        title="How often do models order two images as the annotators do?",
        ylabel="human preference accuracy (HPA)",
        ylim=(0, 1.02),
    )
    tidy(axes)
    axes.grid(False, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save(figure, path)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Running mean over ``window`` values around each (fewer at the ends)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    centres = np.arange(len(values))
    starts = np.maximum(0, centres - (window - 1) // 2)
    ends = np.minimum(len(values), centres + window // 2 + 1)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _curve(
    axes: Axes, history: Sequence[Mapping[str, float]], metric: str, colour: str, window: int
) -> None:
    steps, values = _series(history, metric)
    tidy(axes)
    if len(values) == 0:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=GREY)
        return
    window = window or max(1, len(values) // 10)
    axes.plot(steps, values, color=colour, alpha=0.3, linewidth=1, marker=".", markersize=2)
    axes.plot(steps, smooth(values, window), color=colour, linewidth=2)
    axes.ticklabel_format(axis="y", useOffset=False)
    if np.ptp(values) < FLAT:
        axes.set_ylim(values[0] - 0.5, values[0] + 0.5)


def _series(history: Sequence[Mapping[str, float]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(row["step"], row[metric]) for row in history if row.get(metric) is not None]
    steps, values = np.array(rows, dtype=float).reshape(-1, 2).T
    return steps, values


def _colour(name: str, index: int) -> str:
    return MODEL_COLOURS.get(name, PALETTE[index % len(PALETTE)])


def _title(name: str) -> str:
    return name.replace("_", " ").replace("zero shot", "zero-shot")
