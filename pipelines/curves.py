"""Training curves on the page of a stage that trains, drawn from its history."""

from collections.abc import Mapping, Sequence

from PIL import Image

COLUMNS = 2
PANEL = (3.2, 2.0)
"""Width and height of a panel in inches; both columns fit beside the keys of the metadata."""
MAX_PANELS = 12


def curves_image(history: Sequence[Mapping[str, float]]) -> Image.Image | None:
    """A panel for each metric over the steps; None without steps."""
    names = sorted({metric for row in history for metric in row} - {"step"}, key=_by_group)
    if not names:
        return None
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = names[:MAX_PANELS]
    lines = -(-len(names) // COLUMNS)
    figure = Figure((COLUMNS * PANEL[0], lines * PANEL[1]), layout="constrained", dpi=80)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for axes, metric in zip(panels, names, strict=False):
        points = [(row.get("step", i), row[metric]) for i, row in enumerate(history)
                  if metric in row]  # fmt: skip
        axes.plot(*zip(*points, strict=True), color="#0072B2", linewidth=1.2,
                  marker="o" if len(points) < 20 else "", markersize=3)  # fmt: skip
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels):
        axes.set_axis_off()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))


def _by_group(metric: str) -> tuple[int, str]:
    """Validation and losses first, then the others by name."""
    first = ("validation/", "loss/", "reward/", "tune/")
    return next((i for i, prefix in enumerate(first) if metric.startswith(prefix)), 9), metric
