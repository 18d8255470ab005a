"""Plots of the annotator audit as SVG; the bytes depend on the figures alone.

Matplotlib is imported when a plot is drawn: it takes about a second.
"""

import io
from collections.abc import Mapping
from typing import Any

MAX_PLOTTED = 40
"""Annotators in the plot of biases, largest first."""
MAX_LABELLED = 30
"""With more annotators, only excluded ones are labelled."""
LABEL_HEIGHTS = (9, -10, 20, -21)
"""Of the names in the plot of seconds, in points above their dots, in turn."""
LOW_ALPHA = 0.4
"""Agreement drawn in red."""
BLUE, RED, GREY = "#0072B2", "#B23A00", "#6b7280"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zreward",
    "text.parse_math": False,  # names are not mathematics
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
}

Row = Mapping[str, Any]
Interval = tuple[str, float | None, float | None, float | None, bool]
"""Label, value, lower and upper end, whether it is drawn in red."""


def plot_alphas(
    alpha: Mapping[str, float | None], interval: Mapping[str, list[float | None]]
) -> bytes:
    """Agreement of each dimension with its interval."""
    rows = [
        (name, value, interval[name][0], interval[name][1], (value or 0.0) < LOW_ALPHA)
        for name, value in alpha.items()
    ]
    ends = [end for row in rows for end in row[1:4] if end is not None]
    limits = (min([0.0, *ends]), 1.0)
    return _intervals(rows, "dimension", "Krippendorff's alpha, ordinal (1: perfect)", limits)


def plot_biases(people: Mapping[str, Row], flagged: set[str]) -> bytes | None:
    """Bias and noise of each annotator; None if no bias is known."""
    known = [(name, row) for name, row in people.items() if row["bias"] is not None]
    known = sorted(known, key=lambda pair: -abs(pair[1]["bias"]))[:MAX_PLOTTED]
    rows = [
        (
            f"{name} *" if name in flagged else name,
            row["bias"],
            row["bias"] - row["noise"],
            row["bias"] + row["noise"],
            not row["included"],
        )
        for name, row in sorted(known, key=lambda pair: -pair[1]["bias"])
    ]
    label = "bias ± noise against the others (points)"
    return _intervals(rows, "annotator", label) if rows else None


def plot_seconds(people: Mapping[str, Row], threshold: float) -> bytes | None:
    """Agreement of each annotator over median seconds; None if neither is known of anyone."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    points = [
        (name, row["seconds"], row["agreement"], not row["included"])
        for name, row in people.items()
        if row["seconds"] is not None and row["agreement"] is not None
    ]
    if not points:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, (name, x, y, red) in enumerate(sorted(points, key=lambda point: point[1])):
            axes.plot(x, y, "o", color=RED if red else BLUE, markersize=5)
            if red or len(points) <= MAX_LABELLED:
                place = (0, LABEL_HEIGHTS[index % len(LABEL_HEIGHTS)])  # neighbours do not overlap
                axes.annotate(name, (x, y), place, textcoords="offset points", fontsize=9,
                              ha="center", va="center")  # fmt: skip
        axes.axhline(threshold, color=RED, linestyle="--", linewidth=1)
        axes.set(xlabel="median time per submission (seconds)",
                 ylabel="agreement with the others (1: perfect)")  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=min(0.0, *(y for _, _, y, _ in points)), top=1.0)
        return _svg(figure)


def _intervals(
    rows: list[Interval], kind: str, label: str, limits: tuple[float, float] | None = None
) -> bytes:
    """A point with its interval per row."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.7 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (_, value, low, high, red) in enumerate(rows):
            colour = RED if red else BLUE
            if low is not None and high is not None:
                axes.hlines(place, low, high, color=colour, linewidth=2)
            if value is not None:
                axes.plot(value, place, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", color="#e5e7eb")
        axes.set(xlabel=label, ylabel=kind)
        if limits:
            axes.set_xlim(*limits)
        return _svg(figure)


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
