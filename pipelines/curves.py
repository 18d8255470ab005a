"""Training curves on the page of a stage that trains, drawn from its history."""

from collections.abc import Mapping, Sequence

from PIL import Image

from pipelines.images import INLINE_WIDTH

COLUMNS = 2
DPI = 80
PANEL = (INLINE_WIDTH / COLUMNS / DPI, 1.9)
"""Width and height of a panel in inches; both columns fit beside the keys of the metadata."""
MAX_PANELS = 18
AXES = {
    "loss": "nats per token",
    "loss/total": "loss",
    "loss/pointwise": "nats",
    "loss/pairwise": "share of scale",
    "policy/drift": "nats",
    "policy/reverse_kl": "nats",
    "reward": "at most 1",
    "score/error": "points",
    "score/mass": "probability",
    "score/readable": "share of traces",
    "trace/closed": "share of traces",
    "trace/length": "tokens",
    "trace/thorough": "share of traces",
    "validation/hpa": "share of pairs",
    "validation/plcc": "correlation",
    "validation/nll": "nats",
    "grad_norm": "norm",
}
"""Metric, or its group, to the name or unit of its axis."""


def curves_image(history: Sequence[Mapping[str, float]]) -> Image.Image | None:
    """A panel for each metric over the steps, with a line that counts those left out; None without
    steps."""
    names = sorted({metric for row in history for metric in row} - {"step"}, key=_by_group)
    if not names:
        return None
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    left_out, names = names[MAX_PANELS:], names[:MAX_PANELS]
    lines = -(-len(names) // COLUMNS)
    figure = Figure((COLUMNS * PANEL[0], lines * PANEL[1]), layout="constrained", dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for metric, axes in zip(names, panels, strict=False):  # names first: zip would drop a panel
        points = [(row.get("step", i), row[metric]) for i, row in enumerate(history)
                  if metric in row]  # fmt: skip
        axes.plot(*zip(*points, strict=True), color="#0072B2", linewidth=1.2,
                  marker="o" if len(points) < 20 else "", markersize=3)  # fmt: skip
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.set_ylabel(axis(metric), fontsize=9)
        axes.tick_params(labelsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels):
        axes.set_axis_off()
    if left_out:
        figure.supxlabel(f"{len(left_out)} more in MLflow", fontsize=9)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))


def axis(metric: str) -> str:
    """Name or unit of a metric's axis; a folder's name before the metric's is left out."""
    *_, group, name = f"//{metric}".split("/")
    return AXES.get(f"{group}/{name}") or AXES.get(name) or AXES.get(group) or "value"


def _by_group(metric: str) -> tuple[int, str]:
    """Validation and losses first, then the others by name."""
    first = ("validation/", "loss/", "reward/", "tune/")
    return next((i for i, prefix in enumerate(first) if metric.startswith(prefix)), 9), metric
