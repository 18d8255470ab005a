"""Small drawings for the pages, as SVG text: sharp at any size and a few hundred bytes each."""

import math
from collections.abc import Sequence

from zreward_core.annotations.html import escape

BLUE, RED, SOFT, LINE = "#0072B2", "#B23A00", "#6b7280", "#e5e7eb"
Interval = tuple[str, float | None, float | None, float | None, bool]
"""Label, value, low end, high end, and whether it shall stand out."""


def bars(counts: Sequence[float], labels: Sequence[str], width: int = 90, height: int = 24) -> str:
    """A histogram without axes; the labels are shown when pointed at."""
    top, step = max([*counts, 1]), width / max(1, len(counts))
    marks = [
        f'<rect x="{i * step + 0.5:.1f}" y="{height - height * count / top:.1f}" '
        f'width="{step - 1:.1f}" height="{height * count / top:.1f}" fill="{BLUE}">'
        f"<title>{escape(label)}: {count:g}</title></rect>"
        for i, (count, label) in enumerate(zip(counts, labels, strict=True))
    ]
    return _svg(width, height, [*marks, _line(0, height - 0.5, width, height - 0.5)])


def curve(values: Sequence[float], reach: float, width: int = 80, height: int = 24) -> str:
    """A line around zero that is drawn in the middle; ``reach`` is the top."""
    step = width / max(1, len(values) - 1)
    ends = [max(-reach, min(reach, value)) for value in values]
    points = " ".join(
        f"{i * step:.1f},{height / 2 - value / reach * (height / 2 - 2):.1f}"
        for i, value in enumerate(ends)
    )
    line = f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>'
    return _svg(width, height, [_line(0, height / 2, width, height / 2), line])


def intervals(
    rows: Sequence[Interval], low: float, high: float, ticks: Sequence[float], axis: str
) -> str:
    """A dot with its interval a row, over a common axis."""
    left, width, step = 150, 470, 22
    height = step * len(rows) + 42

    def x(value: float) -> float:
        return left + (min(high, max(low, value)) - low) / (high - low) * (width - left - 16)

    marks = []
    for tick in ticks:
        marks.append(_line(x(tick), 4, x(tick), height - 36))
        marks.append(_text(x(tick), height - 22, f"{tick:g}", "middle", SOFT))
    for place, (label, value, start, end, loud) in enumerate(rows):
        y, colour = 14 + step * place, RED if loud else BLUE
        marks.append(_text(left - 8, y + 4, label, "end"))
        if start is not None and end is not None:
            marks.append(_line(x(start), y, x(end), y, colour, 2))
        if value is not None:
            marks.append(_dot(x(value), y, colour, f"{label}: {value:.3f}"))
    marks.append(_text((left + width) / 2, height - 5, axis, "middle", SOFT))
    return _svg(width, height, marks)


def round_ticks(low: float, high: float) -> list[float]:
    """Three to eight multiples of a round number between two values."""
    least = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * place, 9) for place in range(first, last + 1)]


def scatter(
    points: Sequence[tuple[str, float, float, bool]], axes: tuple[str, str], rule: float
) -> str:
    """Points (label, x, y, stands out) with a dashed rule at a height y; y ends at 1."""
    left, bottom, width, height = 58, 40, 470, 300
    right = max([x for _, x, _, _ in points], default=1.0) * 1.1 or 1.0
    floor = min([0.0, *(y for _, _, y, _ in points)])

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - floor) / (1.0 - floor)
        return left + x / right * (width - left - 24), 8 + (1 - share) * (height - bottom - 8)

    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        start, end = place(0, tick), place(right, tick)
        marks += [_line(*start, *end), _text(left - 6, start[1] + 4, f"{tick:g}", "end", SOFT)]
    for tick in round_ticks(0.0, right):
        at = place(tick, floor)
        marks.append(_text(at[0], at[1] + 16, f"{tick:g}", "middle", SOFT))
    marks.append(_line(*place(0, rule), *place(right, rule), RED, 1.2, "5 4"))
    for label, x, y, loud in points:
        at = place(x, y)
        marks.append(_dot(*at, RED if loud else BLUE, label))
        if loud or len(points) <= 30:
            marks.append(_text(at[0] + 7, at[1] - 4, label))
    marks.append(_text((left + width) / 2, height - 4, axes[0], "middle", SOFT))
    marks.append(
        f'<g transform="translate(11,{(height - bottom) / 2:.0f}) rotate(-90)">'
        f"{_text(0, 0, axes[1], 'middle', SOFT)}</g>"
    )
    return _svg(width, height, marks)


def _svg(width: float, height: float, marks: Sequence[str]) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(marks)}</svg>'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str = LINE, width: float = 1, dash: str = ""
) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}" stroke-dasharray="{dash}"/>'


def _dot(x: float, y: float, colour: str, label: str) -> str:
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
    return f"{circle}<title>{escape(label)}</title></circle>"


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1f2430") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{colour}"'
    return f"<text {place}>{escape(text)}</text>"
